/*
 * replicator/view.h - stage 8 of 8: a random-access, read-only image of one volume as of a recovery
 * point.
 *
 * The chain of layers from the point back to its full layer is merged into one extent map; the
 * index is checked against the signed root once, each pack against its leaf hash and its tag on
 * every read from disk: bad data is an error, never served. rep_view_prepare() (agent, has the
 * store) writes the merged map as a self-contained "view map" file naming segment files and
 * offsets; rep_view_open_map() (the nbdkit plugin, jailed, no catalog) mmaps it.
 * docs/formats/viewmap.md has the file's offsets.
 *
 * Thread: opening and preparing: any, also while the store's thread appends. A view's pread and
 * next_extent may be called from any number of threads at once; different packs are read and opened
 * in parallel. Memory: 64 bytes a live pack and 32 a live run in the map (mmap-ed or in RAM), 4
 * bytes a pack, and the cache; while it is built also 32 bytes for every pack of the chain. Errors:
 * LB_ENOTFOUND (point, volume, key), LB_ECORRUPT, LB_EIO, LB_ENOMEM.
 */
#ifndef REPLICATOR_VIEW_H
#define REPLICATOR_VIEW_H

#include <stdint.h>

#include "base/id.h"

struct lb_err;
struct lb_fs;
struct lb_key;
struct img_dev;
struct rep_store;

struct rep_view_cfg {
	uint64_t cache_bytes; /* opened packs kept; default 16 MiB, at least 2 MiB */
	/* The data key named @key_id; LB_ENOTFOUND when this site does not hold it. */
	int (*dek_of)(void *arg, const struct lb_id *key_id, struct lb_key *out);
	void *arg;
};

/* A view straight over an open store (verify --deep, export, tests). *out is the caller's; the
 * store must stay open as long. */
int rep_view_open(struct img_dev **out, struct rep_store *s, const struct lb_hash *manifest,
		  const struct lb_id *volume, const struct rep_view_cfg *cfg, struct lb_err *err);
/* Write the view map of a volume to @path of @fs (durable not needed: it can be made again). It
 * takes the name of one that is there; who has that one open keeps it. */
int rep_view_prepare(struct rep_store *s, const struct lb_hash *manifest,
		     const struct lb_id *volume, struct lb_fs *fs, const char *path,
		     struct lb_err *err);
/* Open a view map made by rep_view_prepare(); @store_dir is the store's root directory. */
int rep_view_open_map(struct img_dev **out, const char *map_path, const char *store_dir,
		      const struct rep_view_cfg *cfg, struct lb_err *err);

#endif
