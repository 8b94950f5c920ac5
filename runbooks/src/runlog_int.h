/*
 * runlog_int.h - the run log: records to bytes and back, and the file they live in.
 *
 * Format: docs/formats/runlog.md. A batch (what one event caused) is written and synced at once;
 * every record names the first record of its batch, so all before that was durable when it was
 * written. Hence at open: a bad record that some later record's batch begins behind is damage
 * (LB_ECORRUPT); any other bad record is the torn tail of a batch whose sync never returned, and is
 * cut.
 */
#ifndef RUNBOOKS_RUNLOG_INT_H
#define RUNBOOKS_RUNLOG_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runbooks/engine.h"

struct lb_err;
struct lb_file;
struct lb_fs;

#define RB_LOG_MAGIC        0x4c52424cu /* "LBRL" */
#define RB_LOG_VERSION      1u
#define RB_LOG_HEADER_BYTES 88u
#define RB_LOG_PAYLOAD_MAX  (512u << 10)
#define RB_LOG_MAX_BYTES    (64u << 20)
#define RB_LOG_MAX_FACTS    16u

/* Payload of RB_REC_BEGIN: all that a run depends on. */
struct rb_log_begin {
	struct lb_id run;
	enum rb_mode mode;
	bool unattended;
	char who[RB_NAME_BYTES];
	char source_name[RB_TEXT_BYTES];
	struct {
		char name[RB_NAME_BYTES];
		char value[RB_TEXT_BYTES];
	} facts[RB_LOG_MAX_FACTS];
	size_t fact_count;
	const uint8_t *source; /* borrowed */
	size_t source_bytes;
};

/* What a scan found. */
struct rb_log_end {
	uint64_t valid_bytes; /* what is behind is torn */
	uint64_t seq;         /* of the newest record; 0: none */
	struct lb_hash head;  /* its SHA-256; zero: none */
	uint64_t t_ns, wall_ns;
};
/* @begin is set for RB_REC_BEGIN only. Strings live until the callback returns. Non-zero stops. */
typedef int (*rb_log_fn)(void *arg, const struct rb_record *r, const struct rb_log_begin *begin,
			 struct lb_err *err);
/* Pure: decode @len bytes of a log. Errors: LB_ECORRUPT (damage before the tail), what @fn
 * returned. */
int rb_log_scan(const uint8_t *p, size_t len, rb_log_fn fn, void *arg, struct rb_log_end *out,
		struct lb_err *err);

struct rb_log; /* an open file and the batch being made */

/* A new log. LB_EEXIST when @path is there. */
int rb_log_create(struct rb_log **out, struct lb_fs *fs, const char *path, struct lb_err *err);
/* Lock, scan, cut the torn tail (durably). */
int rb_log_open(struct rb_log **out, struct lb_fs *fs, const char *path, rb_log_fn fn, void *arg,
		struct lb_err *err);
/* As above, but nothing is locked or changed; no append may follow. */
int rb_log_load(struct rb_log **out, struct lb_fs *fs, const char *path, rb_log_fn fn, void *arg,
		struct lb_err *err);
void rb_log_destroy(struct rb_log *l);
/* The run of a new log did not begin: remove its file, whatever a write that failed left in it, so
 * that nobody takes it for a run. Destroys @l; NULL is allowed. */
void rb_log_discard(struct rb_log *l, struct lb_fs *fs);

/* Add a record to the batch; wall_ns is taken from @r. Errors: LB_EINPUT, LB_ENOSPC (log full),
 * LB_ENOMEM. */
int rb_log_add(struct rb_log *l, const struct rb_record *r, const struct rb_log_begin *begin,
	       struct lb_err *err);
bool rb_log_has_batch(const struct rb_log *l);
/* Write and sync the batch. After an error the log must not be used any more. */
int rb_log_commit(struct rb_log *l, struct lb_err *err);
/* Newest durable record. */
void rb_log_end(const struct rb_log *l, struct rb_log_end *out);
/* Scan what is durable again. */
int rb_log_each(const struct rb_log *l, rb_log_fn fn, void *arg, struct lb_err *err);

#endif
