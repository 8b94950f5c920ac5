/*
 * tests/lib/memfs.h - lb_memfs: the disk of base/fs.h in RAM, with power cuts and failures on
 * demand.
 *
 * What a power cut keeps is what base/fs.h promises and no more:
 *   - bytes under a completed sync. Of later writes each 512-byte sector holds, independently, what
 * it held after some prefix of those writes; the length is any that lies between;
 *   - names under a completed sync_dir. Of later creates, renames and removals (each atomic) either
 * a prefix or an arbitrary subset survives. A cross-directory rename is settled by either sync_dir.
 * A sync that FAILS settles its dirty sectors at random at once and forgets them, as Linux does: a
 * second sync of that file succeeds and makes nothing of the earlier writes durable.
 *
 * Every random choice comes from the seeds given here. Thread: any (one lock).
 * Handles that were open at a power cut give LB_EIO for everything but close.
 */
#ifndef TESTS_MEMFS_H
#define TESTS_MEMFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lb_err;
struct lb_fs;

/* An empty disk. @seed decides what failed operations leave behind. lb_fs_destroy() frees it; every
 * file is closed before. */
int lb_memfs_create(struct lb_fs **out, uint64_t seed, struct lb_err *err);

/* The power fails and comes back: settle what was not synced, by @seed. Ends cut_at_* and fail_at.
 */
void lb_memfs_power_cut(struct lb_fs *fs, uint64_t seed);

/* Operations so far (all but close), and syncs among them (sync and sync_dir). */
uint64_t lb_memfs_ops(const struct lb_fs *fs);
uint64_t lb_memfs_syncs(const struct lb_fs *fs);

/* The @k-th operation, counted as lb_memfs_ops() does, fails once with @code (an enum lb_code); a
 * write may have been done in part. 0 = none. */
void lb_memfs_fail_at(struct lb_fs *fs, uint64_t k, int code);
/* The power fails INSIDE the @n-th sync, counted as lb_memfs_syncs() does: that one and everything
 * after it gives LB_EIO until lb_memfs_power_cut(). 0 = none. */
void lb_memfs_cut_at_sync(struct lb_fs *fs, uint64_t n);
/* The same, inside the @k-th operation of any kind. */
void lb_memfs_cut_at_op(struct lb_fs *fs, uint64_t k);
bool lb_memfs_is_cut(const struct lb_fs *fs); /* cut and not yet back */
/* The @nth sync reports success and does nothing: a test must notice the missing sync. 0 = none. */
void lb_memfs_ignore_sync(struct lb_fs *fs, uint64_t nth);

/* Capacity for the bytes of all files; beyond it LB_ENOSPC. UINT64_MAX = unlimited. */
void lb_memfs_set_space(struct lb_fs *fs, uint64_t bytes);
/* XOR one stored byte, as rot would. LB_ENOTFOUND when there is no such file or byte. */
int lb_memfs_corrupt(struct lb_fs *fs, const char *path, uint64_t off, uint8_t xor_with);

#endif
