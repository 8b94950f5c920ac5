/*
 * base/loop.h - one event loop per process or thread (a thin wrapper over libuv), and a pool.
 *
 * Rule: a completion callback is ALWAYS asynchronous; it never runs inside the call that asked.
 * Thread: everything is for the loop's own thread, except lb_loop_post() and lb_loop_stop(): any.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lb_err;
struct lb_loop;
struct lb_timer;
struct lb_child;
struct lb_pool;

typedef void (*lb_loop_fn)(void *arg);

int lb_loop_create(struct lb_loop **out, struct lb_err *err);
/* Timers, children, pools and foreign handles are destroyed first; waits for killed children. What
 * was posted and did not run yet is dropped. NULL is allowed. */
void lb_loop_destroy(struct lb_loop *l);
/* Runs until lb_loop_stop() (also one that came before). The caller's thread owns the loop from
 * here. */
int lb_loop_run(struct lb_loop *l, struct lb_err *err);
void lb_loop_stop(struct lb_loop *l);
bool lb_loop_mine(const struct lb_loop *l); /* called on the loop's thread? */
/* Queue @fn(@arg) to run on the loop's thread, in order of posting. Cannot fail (aborts on OOM). */
void lb_loop_post(struct lb_loop *l, lb_loop_fn fn, void *arg);
/* As lb_loop_post(); @drop(@arg) runs instead of @fn when the loop is destroyed first. */
void lb_loop_post_owned(struct lb_loop *l, lb_loop_fn fn, lb_loop_fn drop, void *arg);
/* The underlying uv_loop_t, for code that wraps another libuv handle. */
void *lb_loop_uv(struct lb_loop *l);

/* Timers: first after @first_ns, then every @every_ns (0 = once). */
int lb_timer_create(struct lb_timer **out, struct lb_loop *l, lb_loop_fn fn, void *arg,
		    struct lb_err *err);
void lb_timer_start(struct lb_timer *t, uint64_t first_ns, uint64_t every_ns);
void lb_timer_stop(struct lb_timer *t);
void lb_timer_destroy(struct lb_timer *t);

/* Call @fn on the loop when signal @signo arrives (until the loop is destroyed). */
int lb_loop_on_signal(struct lb_loop *l, int signo, lb_loop_fn fn, void *arg, struct lb_err *err);

/*
 * A child process: argv only, never a shell. stdin is /dev/null; stdout and stderr are collected
 * together up to @max_output_bytes (more is read and dropped). @on_exit runs on the loop once, when
 * the child itself has ended: what it left running in the background is not waited for. @output
 * ends with a NUL. lb_child_destroy() may be called from @on_exit and @on_output. Errors of the
 * spawn: LB_ENOTFOUND, LB_EDENIED, LB_EIO.
 */
struct lb_child_cfg {
	const char *const *argv; /* NULL-terminated, copied */
	const char *const *env;  /* NULL: inherit */
	uint64_t timeout_ns;     /* 0: none; then SIGKILL of the child's process group */
	size_t max_output_bytes; /* default 64 KiB when 0 */
	/* Optional: each piece of output as it comes. */
	void (*on_output)(void *arg, const char *p, size_t len);
	void (*on_exit)(void *arg, int exit_status, int term_signal, bool timed_out,
			const char *output, size_t output_len);
	void *arg;
};
int lb_child_spawn(struct lb_child **out, struct lb_loop *l, const struct lb_child_cfg *cfg,
		   struct lb_err *err);
void lb_child_kill(struct lb_child *c, int signo);
int lb_child_pid(const struct lb_child *c);
void lb_child_destroy(struct lb_child *c); /* kills and reaps when still running */

/* A fixed set of worker threads. @work runs on one of them, then @done(arg) on the loop (NULL:
 * nothing). */
int lb_pool_create(struct lb_pool **out, struct lb_loop *l, unsigned threads, struct lb_err *err);
void lb_pool_submit(struct lb_pool *p, lb_loop_fn work, lb_loop_fn done, void *arg);
/* Finishes what was submitted, runs no more done(): the caller still owns those args. */
void lb_pool_destroy(struct lb_pool *p);

#endif
