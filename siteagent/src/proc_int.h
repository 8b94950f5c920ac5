/*
 * siteagent/src/proc_int.h - helper programs of blocking drivers (nbdkit, qemu-img, ip): argv only,
 * never a shell; stdin is /dev/null, no descriptor but 0 to 2 is inherited, signals are at their
 * defaults.
 *
 * For worker threads. (The loop's own children are lb_child.) Thread: any.
 */
#ifndef SITEAGENT_PROC_INT_H
#define SITEAGENT_PROC_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct lb_err;

/* Start @argv (found along PATH); its output goes to @log_path (truncated). */
int sa_proc_start(pid_t *out, const char *const *argv, const char *log_path, struct lb_err *err);
/* The same in a session of its own: it is to outlive us, and a terminal's Ctrl-C. */
int sa_proc_start_session(pid_t *out, const char *const *argv, const char *log_path,
			  struct lb_err *err);
/* The same, and @fd (borrowed) is its descriptor 3. */
int sa_proc_start_with(pid_t *out, const char *const *argv, const char *log_path, int fd,
		       struct lb_err *err);
/* Reaps it when it ended. */
bool sa_proc_alive(pid_t pid);
/* Wait at most @grace_ns for it to end by itself, then SIGKILL; reaped on return. */
void sa_proc_end(pid_t pid, uint64_t grace_ns);
/* Run @argv to its end; its output (first bytes of it) becomes part of the message when it ends
 * with another status than 0 or takes longer than @timeout_ns. Errors: LB_EIO, LB_ETIMEDOUT,
 * LB_ENOTFOUND (no such program). */
int sa_proc_run(const char *const *argv, const char *log_path, uint64_t timeout_ns,
		struct lb_err *err);

/* The last line of a helper's log into @out, "" when there is none. Returns @out. */
const char *sa_proc_last_line(const char *log_path, char *out, size_t len);

/* One at a time in @dir, among all threads and agents, until *out is closed: two that start would
 * give one disk to two machines, or serve one socket twice, and an end in the middle of a start
 * would find nothing to end. The directory itself is what is locked: a file in it could be removed.
 * Errors: LB_ENOTFOUND, LB_EBUSY (@limit_ns). */
int sa_lock_dir(int *out, const char *dir, uint64_t limit_ns, struct lb_err *err);

/* Sleep, for polling what cannot be waited for. */
void sa_nap(uint64_t ns);
/* Call @fn with this thread in the network namespace /run/netns/@netns, for the moment: what is
 * made there (a socket, a tap) belongs to it. A thread that cannot come back ends the process: it
 * would act for us elsewhere. Errors: of entering, and what @fn returns. */
int sa_in_netns(const char *netns, int (*fn)(void *arg, struct lb_err *err), void *arg,
		struct lb_err *err);

#endif
