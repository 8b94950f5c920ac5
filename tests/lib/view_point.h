/*
 * tests/lib/view_point.h - one volume replicated into a store of its own, and its newest point
 * served by nbdkit and the view plugin, as the agent does it.
 *
 *   init ─► (change group.vol[0], send)... ─► ready ─► keys ─► serve ─► fini
 */
#ifndef TESTS_VIEW_POINT_H
#define TESTS_VIEW_POINT_H

#include <sys/types.h>

#include "nbdkit_run.h"
#include "store_fix.h"

struct view_point {
	char dir[64];
	char map[96], store[96], keyfile[96]; /* the plugin's arguments */
	struct fix_env env;
	struct sf_group group;
	struct sf_point point; /* the newest one */
	struct lb_fs *fs;
	struct rep_store *open; /* until it is ready */
	struct nbdkit_run server;
};

/* A directory, an empty store in it, and a volume of @blocks; all random bytes are of @seed. */
void view_point_init(struct view_point *v, uint32_t blocks, uint64_t seed);
/* Every block of the volume has changed. */
void view_point_dirty_all(struct view_point *v);
/* What has changed becomes a point in the store. */
void view_point_send(struct view_point *v);
/* The newest point's map is there, and the store is closed. */
void view_point_ready(struct view_point *v);
/* The key file, with these permissions. */
void view_point_keys(const struct view_point *v, mode_t mode);
/* As nbdkit_start(): -1 when nbdkit is not installed; its alarm() ends a test that hangs. */
int view_point_serve(struct view_point *v, const char *plugin);
/* The server ends, and everything in the directory is removed. */
void view_point_fini(struct view_point *v);

#endif
