#include "str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool room_for(struct rb_str *s, size_t more)
{
	size_t cap = s->cap != 0 ? s->cap : 1024;
	char *p;

	if (s->bad)
		return false;
	while (cap < s->len + more + 1)
		cap *= 2;
	if (cap == s->cap)
		return true;
	p = realloc(s->p, cap);
	if (p == NULL) {
		s->bad = true;
		return false;
	}
	s->p = p;
	s->cap = cap;
	return true;
}

void rb_str_add(struct rb_str *s, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !room_for(s, (size_t)n))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(s->p + s->len, s->cap - s->len, fmt, ap);
	va_end(ap);
	s->len += (size_t)n;
}

void rb_str_add_json(struct rb_str *s, const char *text)
{
	rb_str_add(s, "\"");
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			rb_str_add(s, "\\%c", c);
		else if (c < 0x20)
			rb_str_add(s, "\\u%04x", c);
		else
			rb_str_add(s, "%c", c);
	}
	rb_str_add(s, "\"");
}

const char *rb_duration_text(char out[RB_DURATION_TEXT], uint64_t ns)
{
	unsigned long long sec = ns / 1000000000ull;

	if (ns != 0 && sec == 0)
		(void)snprintf(out, RB_DURATION_TEXT, "%llums", (unsigned long long)(ns / 1000000));
	else if (sec < 60)
		(void)snprintf(out, RB_DURATION_TEXT, "%llus", sec);
	else if (sec < 3600 && sec % 60 == 0)
		(void)snprintf(out, RB_DURATION_TEXT, "%llum", sec / 60);
	else if (sec < 3600)
		(void)snprintf(out, RB_DURATION_TEXT, "%llum%llus", sec / 60, sec % 60);
	else if (sec % 86400 == 0)
		(void)snprintf(out, RB_DURATION_TEXT, "%llud", sec / 86400);
	else if (sec % 3600 < 60)
		(void)snprintf(out, RB_DURATION_TEXT, "%lluh", sec / 3600);
	else
		(void)snprintf(out, RB_DURATION_TEXT, "%lluh%llum", sec / 3600, sec / 60 % 60);
	return out;
}

char *rb_str_take(struct rb_str *s)
{
	char *p = NULL;

	if (room_for(s, 0)) {
		s->p[s->len] = '\0';
		p = s->p;
	} else {
		free(s->p);
	}
	*s = (struct rb_str){0};
	return p;
}
