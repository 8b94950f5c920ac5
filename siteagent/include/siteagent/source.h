/*
 * siteagent/source.h - where a protected machine's blocks come from: one vtable, several drivers.
 *
 *   block    image files and block devices of a machine; changes are found by digests
 *   vmcore   a machine that runs under lifeboat-vm; changes are known exactly, and with memory
 *            points its RAM is one more volume, of the same instant
 *   libvirt  a running domain of somebody else's libvirtd; QEMU mirrors every guest write
 *            synchronously into our nbdkit journal plugin, so changes are known exactly
 *
 * The life of a source, as the daemon drives it (blocking calls, on a worker thread):
 *
 *   create -> prepare -> cut -> [dev, changed: read every volume] -> check -> release -+
 *                ^        ^                                                            |
 *                |        +---------------------- next point --------------------------+
 *                +--- LB_EAGAIN / LB_ECLOSED from anything: the mirror is lost, prepare again
 *
 * Invariant: (C1) one cut is open at most; release() ends it, whatever happened to it.
 *            (C2) what changed() does not name equals the previous cut that was released as KEPT.
 * When that cannot be promised (first cut, mirror re-armed, agent restarted), changed() gives NULL
 * = compare everything by digests; never a silent delta. (C3) bytes read from dev() belong to the
 * cut only once check() said so. A driver that cannot freeze (block) finds out there: LB_ECHANGED,
 * release as ABANDONED, cut again. (C4) no driver ever stops or slows the machine longer than the
 * hold limit of a cut, nor makes a guest write wait for anything that is not on this host.
 *
 * Thread: one thread at a time per source (any); sa_source_state() and sa_source_cancel(): any
 * thread.
 */
#ifndef SITEAGENT_SOURCE_H
#define SITEAGENT_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replicator/source.h"

struct img_dev;
struct img_extmap;
struct lb_err;
struct sa_source;
struct sa_vmdesc;

enum {
	SA_SOURCE_VOLUMES_MAX = 16,
	SA_SOURCE_BLOCK_BYTES = 4096,
	SA_VOLUME_NAME_BYTES = 65,
};

#define SA_SOURCE_RAM "ram" /* name of the volume that is a machine's memory */

enum sa_source_state {
	SA_SRC_IDLE,    /* created, nothing armed */
	SA_SRC_SYNCING, /* libvirt: QEMU copies the disk into the mirror */
	SA_SRC_READY,   /* a cut may be taken */
	SA_SRC_LOST,    /* the machine or the mirror went away; prepare() again */
};
const char *sa_source_state_name(enum sa_source_state st); /* "idle", "syncing", "ready", "lost" */

/* One disk of the machine. For libvirt the name is the target device ("vda", "hda") and the path is
 * unused. */
struct sa_source_volume {
	char name[SA_VOLUME_NAME_BYTES];
	bool ram; /* out: it is the machine's memory */
	const char *path;
	uint64_t size_bytes; /* out: known once prepare() returned 0; 0 before (vmcore: a cut) */
};

struct sa_source_cfg {
	const char *driver;  /* "block", "libvirt" or "vmcore" */
	const char *machine; /* for messages */
	const char *address; /* numeric IP of the machine, for probes at the other site; or NULL */
	/* block: what to protect, at least one. libvirt: the targets, or none for every file or
	 * block disk of the domain that is not read-only, a CD-ROM or a floppy. Copied. */
	const struct sa_source_volume *volumes;
	size_t volume_count;

	/* block */
	bool frozen; /* the files are snapshots or belong to a machine that is off: a scan needs no
		      * second pass. Still checked by size, mtime, ctime and inode. */

	const char *xml_path; /* file with the libvirt domain XML to boot it by elsewhere; may be
				 NULL */

	/* vmcore: work_dir is the directory its lifeboat-vm runs in; volumes are its disks in
	 * their order. Borrowed until destroy. */
	const struct sa_vmdesc *vm;
	bool vm_memory;  /* memory points */
	struct lb_id id; /* of the machine, for its device state */

	/* libvirt */
	const char *uri;      /* of the customer's libvirtd */
	const char *domain;   /* its name there */
	const char *work_dir; /* ours, mode 0700: mirror files (as large as the disks' used space),
				 sockets */
	const char *nbdkit;   /* program; default "nbdkit" */
	const char *plugin;   /* lifeboat-journal-plugin.so */
	uint64_t side_max_bytes;   /* old blocks kept aside while a cut is open; default 1 GiB; then
				    * the cut   is given up (LB_ECHANGED), never the guest's write */
	uint64_t ready_timeout_ns; /* prepare() gives up after this; default 10 min */
};

/* Nothing is opened yet. @cfg is copied. *@out is the caller's: sa_source_destroy().
 * Errors: LB_EINPUT (unknown driver, missing field, duplicate or bad volume name), LB_ENOMEM. */
int sa_source_create(struct sa_source **out, const struct sa_source_cfg *cfg, struct lb_err *err);
/* Ends an open cut, takes the mirror down (the guest goes on), stops our nbdkit. NULL is allowed.
 */
void sa_source_destroy(struct sa_source *s);

/* Make cuts possible: open the files, or arm the mirror and wait until it is in sync. Idempotent
 * and cheap when READY. Errors: LB_ENOTFOUND (no such file, domain, disk), LB_EAGAIN (the domain is
 * not running, libvirtd is not reachable: try again with back-off), LB_ETIMEDOUT, LB_ECANCELED,
 * LB_EUNSUPPORTED (a disk we cannot mirror). */
int sa_source_prepare(struct sa_source *s, struct lb_err *err);
enum sa_source_state sa_source_state(const struct sa_source *s);
/* Makes a blocking prepare() return LB_ECANCELED soon; sticky until destroy. */
void sa_source_cancel(struct sa_source *s);

/* The volumes, after prepare(); borrowed. Their order is stable for the life of the source. */
size_t sa_source_volume_count(const struct sa_source *s);
const struct sa_source_volume *sa_source_volume(const struct sa_source *s, size_t vol);

/* Disks that the machine has and that are not among its volumes, as prepare() and every 64th
 * check() saw it: no point holds them. 0 where the driver cannot know (block, vmcore). Any thread.
 */
unsigned sa_source_unlisted(const struct sa_source *s);

/* How the machine is built, for the boot driver of the other site: the domain's inactive XML
 * (libvirt), or NULL (block). Owned by the source, valid until the next prepare(). */
const char *sa_source_machine_xml(const struct sa_source *s);

struct sa_cut {
	uint64_t wall_ns; /* CLOCK_REALTIME and CLOCK_BOOTTIME, read BEFORE the first write was
			     withheld: */
	uint64_t boot_ns; /* the age of the point is never under-reported */
	uint64_t held_ns; /* how long completions were withheld; 0 for block */
	enum rep_consistency consistency; /* the level reached, the lowest of all members */
};

/*
 * Take one cut over all @members (the machines of a group; each prepared, no cut open): withhold
 * write completions on all disks of all members, mark all, resume all. Not done within @limit_ns
 * (0: 50 ms): all resume, no cut is open, LB_ETIMEDOUT. Errors: LB_ETIMEDOUT, LB_EAGAIN or
 * LB_ECLOSED (a member is not READY or lost its mirror).
 */
int sa_source_cut(struct sa_cut *out, struct sa_source *const *members, size_t count,
		  uint64_t limit_ns, struct lb_err *err);

/* Volume @vol as of the open cut: read-only, borrowed until release(), readable from several
 * threads. */
int sa_source_dev(struct sa_source *s, size_t vol, struct img_dev **out, struct lb_err *err);

/* Which 4 KiB blocks of @vol may differ from the last KEPT cut: runs (values unused), a superset,
 * borrowed until release(). *out = NULL: unknown, compare all by digests (C2). */
int sa_source_changed(struct sa_source *s, size_t vol, const struct img_extmap **out,
		      struct lb_err *err);
/* The point that the last changed() of @vol counts from, zeros: this process' last kept one. */
struct lb_hash sa_source_since(const struct sa_source *s, size_t vol);

/* After everything of the cut was read and before the point is sealed: were those bytes the cut's?
 * For a live file this is the second pass: everything that was read is read and compared again.
 * Errors: LB_ECHANGED (names the volume; abandon this cut), LB_EIO. */
int sa_source_check(struct sa_source *s, struct lb_err *err);

enum sa_cut_fate {
	SA_CUT_KEPT,      /* the peer's receipt is in: the next cut's changes count from here */
	SA_CUT_ABANDONED, /* its changes are folded into the next cut's */
};
/* @point: what a kept cut became, NULL: not known. Without an open cut: nothing. Never fails: what
 * cannot be told to the driver's helper makes the next changed() say "unknown". */
void sa_source_release(struct sa_source *s, enum sa_cut_fate fate, const struct lb_hash *point);

/*
 * The sources of one protection group as the driver of a rep_source_group: .ops =
 * &sa_source_group_ops, .arg = the object below. The group's volumes are the members' volumes,
 * member by member, in the order of sa_source_volume(). begin() prepares members that are not READY
 * (so it may block for long: LB_EAGAIN while a machine is off), cuts, and hands everything over;
 * its machine_json is
 *   {"format":1,"machines":[{"name":"db01","driver":"libvirt","domain_xml":"..."}]}
 * Members are borrowed and must outlive the object; one cut at a time.
 */
struct sa_source_group;
extern const struct rep_cut_ops sa_source_group_ops;
int sa_source_group_create(struct sa_source_group **out, struct sa_source *const *members,
			   size_t count, uint64_t limit_ns, struct lb_err *err);
void sa_source_group_destroy(struct sa_source_group *g); /* NULL is allowed */
/* The domain XML of machine @name in such a text (@len bytes, from a manifest: foreign, checked),
 * or NULL in *out when it has none. *out is the caller's: free(). Errors: LB_EINPUT, LB_ENOTFOUND
 * (no such machine), LB_ENOMEM. */
int sa_machine_xml_of(char **out, const char *machine_json, size_t len, const char *name,
		      struct lb_err *err);
/* Its address as configured at the source, checked to be a numeric IP, or "" when there is none. */
void sa_machine_address_of(char *out, size_t out_bytes, const char *machine_json, size_t len,
			   const char *name);

#endif
