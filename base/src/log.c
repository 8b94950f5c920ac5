#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "text_int.h"

enum {
	LINE_BYTES = 4096
};

/*
 * Where the process logs is a property of the process, like its standard error: the one place in
 * base/ with a variable at file scope. Every access is under the lock.
 */
static struct {
	pthread_mutex_t lock;
	int fd;
	enum lb_log_level level;
	lb_log_tap_fn tap;
	void *tap_arg;
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = 2, .level = LB_LOG_INFO};

static const char *const level_names[] = {
	[LB_LOG_DEBUG] = "debug",
	[LB_LOG_INFO] = "info",
	[LB_LOG_WARN] = "warn",
	[LB_LOG_ERROR] = "error",
};

void lb_log_set_fd(int fd)
{
	(void)pthread_mutex_lock(&sink.lock);
	sink.fd = fd;
	(void)pthread_mutex_unlock(&sink.lock);
}

void lb_log_set_level(enum lb_log_level lvl)
{
	(void)pthread_mutex_lock(&sink.lock);
	sink.level = lvl;
	(void)pthread_mutex_unlock(&sink.lock);
}

void lb_log_set_tap(lb_log_tap_fn fn, void *arg)
{
	(void)pthread_mutex_lock(&sink.lock);
	sink.tap = fn;
	sink.tap_arg = arg;
	(void)pthread_mutex_unlock(&sink.lock);
}

int lb_log_level_parse(enum lb_log_level *out, const char *text, struct lb_err *err)
{
	for (int i = LB_LOG_DEBUG; i <= LB_LOG_ERROR; i++) {
		if (strcmp(text, level_names[i]) == 0) {
			*out = (enum lb_log_level)i;
			return 0;
		}
	}
	return lb_err_set(err, LB_EINPUT, 0,
			  "parse log level \"%.32s\": one of debug, info, warn, error", text);
}

struct line {
	char text[LINE_BYTES];
	size_t len;
	bool full; /* what does not fit is left out whole, never half a character */
};

/* Two bytes stay free for a closing quote and the newline. */
static void add(struct line *l, const char *s, size_t n)
{
	if (l->full || n > sizeof(l->text) - 3 - l->len) {
		l->full = true;
		return;
	}
	memcpy(l->text + l->len, s, n);
	l->len += n;
}

static bool is_plain(const char *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789._:/+-";

	return s[0] != 0 && s[strspn(s, plain)] == 0;
}

static void add_value(struct line *l, const char *s)
{
	char unit[LB_TEXT_UNIT];

	if (is_plain(s)) {
		add(l, s, strlen(s));
		return;
	}
	add(l, "\"", 1);
	if (l->full)
		return;
	while (*s != 0 && !l->full) {
		s += lb_text_unit(unit, s, true);
		add(l, unit, strlen(unit));
	}
	l->text[l->len++] = '"';
}

static void add_pair(struct line *l, const char *key, size_t key_len, const char *value)
{
	size_t before = l->len;

	if (l->len != 0)
		add(l, " ", 1);
	add(l, key, key_len);
	add(l, "=", 1);
	if (l->full)
		l->len = before; /* no room for the key: no half pair */
	else
		add_value(l, value);
}

/* Print the one argument that @spec (after the '%') names. Not printf: only these forms exist. */
static const char *next_arg(char *buf, size_t cap, const char *spec, va_list *ap)
{
	const char *s;

	if (strcmp(spec, "s") == 0) {
		s = va_arg(*ap, const char *);
		return s != NULL ? s : "-";
	}
	if (strcmp(spec, "d") == 0)
		(void)snprintf(buf, cap, "%d", va_arg(*ap, int));
	else if (strcmp(spec, "u") == 0)
		(void)snprintf(buf, cap, "%u", va_arg(*ap, unsigned));
	else if (strcmp(spec, "x") == 0)
		(void)snprintf(buf, cap, "%x", va_arg(*ap, unsigned));
	else if (strcmp(spec, PRIu64) == 0 || strcmp(spec, "llu") == 0 || strcmp(spec, "zu") == 0)
		(void)snprintf(buf, cap, "%" PRIu64, va_arg(*ap, uint64_t));
	else if (strcmp(spec, PRId64) == 0 || strcmp(spec, "lld") == 0)
		(void)snprintf(buf, cap, "%" PRId64, va_arg(*ap, int64_t));
	else
		lb_assert_fail(__FILE__, __LINE__, spec);
	return buf;
}

static void add_args(struct line *l, va_list *ap)
{
	const char *pair;
	char buf[32];

	while ((pair = va_arg(*ap, const char *)) != NULL) {
		const char *eq = strchr(pair, '=');

		LB_ASSERT(eq != NULL && eq != pair && eq[1] == '%');
		add_pair(l, pair, (size_t)(eq - pair), next_arg(buf, sizeof(buf), eq + 2, ap));
	}
}

static void add_time(struct line *l)
{
	struct timespec ts = {0};
	struct tm tm = {0};
	char day[24];
	char buf[32];

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	(void)gmtime_r(&ts.tv_sec, &tm);
	(void)strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(buf, sizeof(buf), "%s.%03dZ", day, (int)(ts.tv_nsec / 1000000));
	add_pair(l, "ts", 2, buf);
}

/* One write(2) a line. A log that cannot be written must not stop what it describes. */
static void emit(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		p += n;
		len -= (size_t)n;
	}
}

void lb_log(enum lb_log_level lvl, const char *comp, const char *ev, ...)
{
	struct line l = {.len = 0};
	lb_log_tap_fn tap;
	void *tap_arg;
	va_list ap;
	int fd;

	(void)pthread_mutex_lock(&sink.lock);
	fd = lvl >= sink.level ? sink.fd : -1;
	tap = lvl >= sink.level ? sink.tap : NULL;
	tap_arg = sink.tap_arg;
	(void)pthread_mutex_unlock(&sink.lock);
	if (fd < 0 && tap == NULL)
		return;
	add_time(&l);
	add_pair(&l, "lvl", 3, level_names[lvl]);
	add_pair(&l, "comp", 4, comp);
	add_pair(&l, "ev", 2, ev);
	va_start(ap, ev);
	add_args(&l, &ap);
	va_end(ap);
	l.text[l.len] = '\n';
	emit(fd, l.text, l.len + 1);
	l.text[l.len] = 0;
	if (tap != NULL)
		tap(tap_arg, lvl, l.text);
}
