#define LB_ERR_DEFINED
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const struct {
	const char *name;
	const char *text;
	enum lb_class cls;
} codes[] = {[LB_OK_POS] = {"LB_OK", "ok", LB_CLASS_BUG},
#define LB_CODE_ROW(name, cls, text) [name##_POS] = {#name, text, cls},
	     LB_CODES(LB_CODE_ROW)
#undef LB_CODE_ROW
};

static unsigned pos_of(int code)
{
	if (code > 0 || code <= -(int)LB_CODE_COUNT)
		return LB_EINVAL_POS;
	return (unsigned)-code;
}

/* What has no room is cut, where a "%.60s" of a caller ends, or the whole: never half a character,
 * which could not be told as JSON. */
static void finish(struct lb_err *err)
{
	size_t n = strlen(err->msg);

	if (err->sys_errno != 0)
		(void)snprintf(err->msg + n, sizeof(err->msg) - n, ": %s",
			       strerror(err->sys_errno));
	(void)lb_utf8_clean(err->msg);
}

int lb_err_set(struct lb_err *err, enum lb_code code, int sys_errno, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return code;
	err->code = code;
	err->sys_errno = sys_errno;
	va_start(ap, fmt);
	(void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	finish(err);
	return code;
}

static enum lb_code code_of_errno(int sys_errno)
{
	switch (sys_errno) {
	case ENOSPC:
	case EDQUOT:
		return LB_ENOSPC;
	case ENOMEM:
		return LB_ENOMEM;
	case ENOENT:
		return LB_ENOTFOUND;
	case EEXIST:
		return LB_EEXIST;
	case EACCES:
	case EPERM:
		return LB_EDENIED;
	default:
		return LB_EIO;
	}
}

int lb_err_errno(struct lb_err *err, int sys_errno, const char *fmt, ...)
{
	enum lb_code code = code_of_errno(sys_errno);
	va_list ap;

	if (err == NULL)
		return code;
	err->code = code;
	err->sys_errno = sys_errno;
	va_start(ap, fmt);
	(void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	finish(err);
	return code;
}

int lb_err_wrap(struct lb_err *err, int code, const char *fmt, ...)
{
	char inner[sizeof(err->msg)];
	va_list ap;
	size_t n;

	if (err == NULL)
		return code;
	if (err->code == 0) {
		err->code = code;
		(void)snprintf(err->msg, sizeof(err->msg), "%s", lb_err_text(code));
	}
	memcpy(inner, err->msg, sizeof(inner));
	va_start(ap, fmt);
	(void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	n = strlen(err->msg);
	(void)snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", inner);
	(void)lb_utf8_clean(err->msg);
	return err->code;
}

enum lb_class lb_err_class(int code)
{
	return codes[pos_of(code)].cls;
}

const char *lb_err_text(int code)
{
	return codes[pos_of(code)].text;
}

const char *lb_err_name(int code)
{
	return codes[pos_of(code)].name;
}

int lb_err_exit_status(int code)
{
	if (code == LB_OK)
		return 0;
	if (code == LB_EDENIED)
		return 5;
	switch (lb_err_class(code)) {
	case LB_CLASS_INPUT:
		return 3;
	case LB_CLASS_RETRY:
		return 4;
	case LB_CLASS_DATA:
		return 6;
	case LB_CLASS_FENCE:
		return 7;
	case LB_CLASS_BUG:
	case LB_CLASS_PEER:
	case LB_CLASS_LOCAL:
		break;
	}
	return 1;
}
