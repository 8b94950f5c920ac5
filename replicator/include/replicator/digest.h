/*
 * replicator/digest.h - what the peer holds of one volume: one keyed digest per 4 KiB block.
 *
 * The source compares a cut with these digests instead of asking the peer. The store names the
 * manifest it describes (its base). The changes of a cut go to a redo log; the log is sealed
 * (durable, with the manifest's hash) before POINT is sent, and applied only on the receipt of
 * exactly that manifest. Whatever the moment of a crash, the store opens as base, or as base with a
 * sealed log that waits for its answer.
 *
 * Files below the file system given: "digests/<volume hex>" (base), "....redo0", "....redo1".
 * Digests are XXH3-128 under a random secret of the volume that never leaves the file, so nobody
 * without it can make two blocks collide. A block of zeros has the digest zero and is a hole of the
 * file: an empty store describes a volume of zeros, which is why a seed is a delta against it.
 *
 * States (rep_digest_base / rep_digest_pending):
 *   none             nothing is known of the peer: the next cut must be full
 *   base             describes manifest B
 *   base + pending   describes B; a sealed log would make it P (at most two logs are kept)
 *
 * A store may be kept in memory as well (rep_digest_keep()), for volumes of which scattered blocks
 * change often: reading then takes no system call, and applying a log few.
 *
 * Thread: rep_digest_of(), rep_digest_read() and rep_digest_change(): any thread; the others: one
 * at a time, none of the first three running. Memory: a few windows of 64 KiB at any volume size;
 * nothing is mapped. Errors: LB_EIO, LB_ENOSPC, LB_ENOMEM as the file system says; LB_ECORRUPT when
 * a file fails its checks (rep_digest_discard() and a full cut are the way out, and worth an
 * alarm).
 */
#ifndef REPLICATOR_DIGEST_H
#define REPLICATOR_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/id.h"

struct lb_env;
struct lb_err;
struct lb_fs;
struct rep_digest;

/* Open the store of @volume, or make an empty one (state none). Finishes a change whose receipt had
 * come before a crash. *@out is the caller's. */
int rep_digest_open(struct rep_digest **out, struct lb_env *env, struct lb_fs *fs,
		    const struct lb_id *volume, struct lb_err *err);
/*
 * The same for a volume that does not outlive this boot of its host (RAM): nothing is synced after
 * the open. A process that dies loses nothing by it; the power takes the volume with it, and a
 * store of another boot than @boot is dropped (state none), as is one the kernel could not write
 * back (LB_ECORRUPT). "digests/<volume hex>.boot" names the boot.
 */
int rep_digest_open_volatile(struct rep_digest **out, struct lb_env *env, struct lb_fs *fs,
			     const struct lb_id *volume, const struct lb_id *boot,
			     struct lb_err *err);
void rep_digest_close(struct rep_digest *d); /* NULL is allowed; drops an unsealed log */
/* Remove the files of @volume. */
int rep_digest_discard(struct lb_fs *fs, const struct lb_id *volume, struct lb_err *err);

/* Keep the digests of the first @blocks blocks in memory from now on; done again: of more. */
int rep_digest_keep(struct rep_digest *d, uint64_t blocks, struct lb_err *err);

/* The manifest the digests describe; false: none. */
bool rep_digest_base(const struct rep_digest *d, struct lb_hash *out);
/* Is there a sealed log that leads from the base to @manifest? */
bool rep_digest_pending(const struct rep_digest *d, const struct lb_hash *manifest);

/* The digest of one block (4096 bytes) that is not all zero. */
void rep_digest_of(const struct rep_digest *d, struct lb_digest *out, const void *block);
bool rep_digest_is_zero(const struct lb_digest *a);
/* Digests of @count blocks from @block as of the base; beyond what was ever stored: zero. */
int rep_digest_read(struct rep_digest *d, struct lb_digest *out, uint64_t block, uint32_t count,
		    struct lb_err *err);

/*
 * Begin the log of a cut, dropping one that is open but not sealed.
 * @full: the layer has no base. The store becomes state none at once (durably) and reads as zero,
 * and sealed logs are void; a crash before the seal means another full cut.
 */
int rep_digest_begin(struct rep_digest *d, bool full, struct lb_err *err);
/* Blocks @block.. have changed to @digests; NULL: to zero. Each block at most once per cut. */
int rep_digest_change(struct rep_digest *d, uint64_t block, uint32_t count,
		      const struct lb_digest *digests, struct lb_err *err);
/* The log is complete and leads to @manifest. Durable on return. */
int rep_digest_seal(struct rep_digest *d, const struct lb_hash *manifest, struct lb_err *err);
/* The receipt of @manifest came: apply its log. Idempotent: already the base is success.
 * LB_ENOTFOUND: no sealed log leads to it (then the peer holds what we do not know: full cut). */
int rep_digest_commit(struct rep_digest *d, const struct lb_hash *manifest, struct lb_err *err);

#endif
