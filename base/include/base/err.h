/*
 * base/err.h - the one error model.
 *
 * A function that can fail returns int: 0, or a negative enum lb_code. It takes `struct lb_err *`
 * as its LAST parameter and fills it only on failure. The struct is a plain value on the caller's
 * stack: no allocation (works when out of memory), no thread-local (survives a hop between
 * threads, and between processes). NULL is allowed when the caller needs only the code.
 *
 * The names (LB_EINPUT, ...) are printed in every error a user sees and in --json output: they are
 * stable, never renamed and never reused.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>
#include <stdint.h>

#define LB_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* One row per code: X(name, class, text). The class is what callers act on. Append only. */
#define LB_CODES(X)                                                            \
	X(LB_EINVAL, LB_CLASS_BUG, "invalid argument")                         \
	X(LB_EINPUT, LB_CLASS_INPUT, "refused input")                          \
	X(LB_ENOMEM, LB_CLASS_LOCAL, "out of memory")                          \
	X(LB_EIO, LB_CLASS_LOCAL, "I/O error")                                 \
	X(LB_ENOSPC, LB_CLASS_LOCAL, "no space left")                          \
	X(LB_EAGAIN, LB_CLASS_RETRY, "try again")                              \
	X(LB_ETIMEDOUT, LB_CLASS_RETRY, "timed out")                           \
	X(LB_EPROTO, LB_CLASS_PEER, "peer broke the protocol")                 \
	X(LB_EAUTH, LB_CLASS_PEER, "peer not authenticated")                   \
	X(LB_ECORRUPT, LB_CLASS_DATA, "stored data failed its checksum")       \
	X(LB_EFENCED, LB_CLASS_FENCE, "this site is fenced")                   \
	X(LB_ECLOSED, LB_CLASS_RETRY, "connection closed")                     \
	X(LB_EBASE, LB_CLASS_DATA, "delta does not fit the head it names")     \
	X(LB_ESUSPECT, LB_CLASS_LOCAL, "store is suspect after a failed sync") \
	X(LB_ENOTFOUND, LB_CLASS_INPUT, "no such object")                      \
	X(LB_EEXIST, LB_CLASS_INPUT, "object exists already")                  \
	X(LB_EDENIED, LB_CLASS_INPUT, "not permitted")                         \
	X(LB_EBUSY, LB_CLASS_RETRY, "in use")                                  \
	X(LB_EUNSUPPORTED, LB_CLASS_INPUT, "not supported here")               \
	X(LB_ECANCELED, LB_CLASS_RETRY, "cancelled")                           \
	X(LB_ECHANGED, LB_CLASS_RETRY, "source changed while it was read")     \
	X(LB_EVERSION, LB_CLASS_PEER, "format or protocol version not supported")

enum lb_class {
	LB_CLASS_BUG,   /* our mistake: report, do not retry */
	LB_CLASS_INPUT, /* a person or a file is wrong: say what and where, change nothing */
	LB_CLASS_RETRY, /* transient: reconnect with back-off */
	LB_CLASS_PEER,  /* drop this connection, keep the session */
	LB_CLASS_LOCAL, /* this host cannot proceed: pause the volume */
	LB_CLASS_DATA,  /* bytes on disk are wrong: mark the recovery point bad, resync */
	LB_CLASS_FENCE, /* stop writing NOW; only an operator or a runbook may resume */
};

#define LB_CODE_ENUM(name, cls, text) name##_POS,
enum lb_code_pos {
	LB_OK_POS,
	LB_CODES(LB_CODE_ENUM) LB_CODE_COUNT
};
#undef LB_CODE_ENUM
#define LB_CODE_ENUM(name, cls, text) name = -(int)name##_POS,
enum lb_code {
	LB_OK = 0,
	LB_CODES(LB_CODE_ENUM)
};
#undef LB_CODE_ENUM

struct lb_err {
	int code;      /* enum lb_code; 0 when unset */
	int sys_errno; /* errno at the failing call, 0 when none */
	char msg[256]; /* innermost cause last; callers prepend context; well-formed UTF-8 */
};

/* Set @err (may be NULL) and return @code, so `return lb_err_set(err, LB_EIO, errno, ...)`. */
int lb_err_set(struct lb_err *err, enum lb_code code, int sys_errno, const char *fmt, ...)
	LB_PRINTF(4, 5);

/* As lb_err_set(), the code chosen from @sys_errno: ENOSPC and EDQUOT give LB_ENOSPC, ENOMEM
 * LB_ENOMEM, ENOENT LB_ENOTFOUND, EEXIST LB_EEXIST, EACCES and EPERM LB_EDENIED, else LB_EIO. */
int lb_err_errno(struct lb_err *err, int sys_errno, const char *fmt, ...) LB_PRINTF(3, 4);

/* Prepend "context: " to a message already set; returns err->code. Where nobody set @err (or it is
 * NULL) that is @code, and the message its text: a failure never turns into 0. */
int lb_err_wrap(struct lb_err *err, int code, const char *fmt, ...) LB_PRINTF(3, 4);

/* clang's analyzer sees one file at a time and no variadic function: this is what it has to know of
 * them. Not in what is compiled. */
#if defined(__clang_analyzer__) && !defined(LB_ERR_DEFINED)
static inline int lb_err_failed(int code)
{
	return code < 0 ? code : LB_EINVAL;
}
#define lb_err_set(err, code, ...) ((void)(lb_err_set)(err, code, __VA_ARGS__), lb_err_failed(code))
#define lb_err_errno(err, ...)     ((void)(lb_err_errno)(err, __VA_ARGS__), lb_err_failed(LB_EIO))
#define lb_err_wrap(err, code, ...) \
	((void)(lb_err_wrap)(err, code, __VA_ARGS__), lb_err_failed(code))
#endif

enum lb_class lb_err_class(int code);
const char *lb_err_text(int code); /* "refused input" */
const char *lb_err_name(int code); /* "LB_EINPUT": the stable code users see; "LB_OK" for 0 */

/* Exit status of a program that ends with @code: 0 ok, 1 other failure, 3 INPUT, 4 RETRY (agent or
 * peer not reachable), 5 LB_EDENIED, 6 DATA, 7 FENCE. (2 is wrong usage, by the option parser.) */
int lb_err_exit_status(int code);

#endif
