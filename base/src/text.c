#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "text_int.h"

size_t lb_utf8_next(const char *s, uint32_t *out)
{
	const uint8_t *b = (const uint8_t *)s;
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t cp;
	size_t n;

	if (b[0] < 0x80) {
		*out = b[0];
		return b[0] != 0;
	}
	n = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : b[0] >= 0xc0 ? 2 : 0;
	if (n == 0 || b[0] >= 0xf8)
		return 0;
	cp = b[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((b[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (b[i] & 0x3fu);
	}
	if (cp < least[n] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
		return 0;
	*out = cp;
	return n;
}

/* Is @s the begin of one character and nothing behind? */
static bool is_cut_off(const char *s)
{
	unsigned char first = (unsigned char)*s;
	size_t n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 0;
	size_t have = 1;

	while (have < n && ((unsigned char)s[have] & 0xc0) == 0x80)
		have++;
	return have < n && s[have] == 0;
}

char *lb_utf8_clean(char *s)
{
	uint32_t cp = 0;

	for (char *p = s; *p != 0;) {
		size_t n = lb_utf8_next(p, &cp);

		if (n == 0 && is_cut_off(p))
			*p = 0;
		else if (n == 0)
			*p++ = '?';
		else
			p += n;
	}
	return s;
}

/* Characters that a terminal acts on, or that make text look other than it is. */
static bool is_hostile(uint32_t cp)
{
	/* Not seen, or they change what stands beside them: soft hyphen, joiners, fillers, marks of
	 * direction, selectors (by which a terminal may draw in one column or two), tags. */
	static const struct {
		uint32_t first, last;
	} unseen[] = {
		{0x00ad, 0x00ad}, {0x034f, 0x034f}, {0x061c, 0x061c},   {0x115f, 0x1160},
		{0x17b4, 0x17b5}, {0x180b, 0x180f}, {0x200b, 0x200f},   {0x2028, 0x202e},
		{0x2060, 0x206f}, {0x3164, 0x3164}, {0xfe00, 0xfe0f},   {0xfeff, 0xfeff},
		{0xffa0, 0xffa0}, {0xfff0, 0xfffb}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
	};

	if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
		return true;
	for (size_t i = 0; i < sizeof(unseen) / sizeof(unseen[0]); i++)
		if (cp >= unseen[i].first && cp <= unseen[i].last)
			return true;
	return false;
}

size_t lb_text_unit(char out[LB_TEXT_UNIT], const char *s, bool quoted)
{
	uint32_t cp = 0;
	size_t n = lb_utf8_next(s, &cp);

	if (n == 0) {
		(void)snprintf(out, LB_TEXT_UNIT, "\\x%02x", (unsigned)(uint8_t)s[0]);
		return 1;
	}
	if (is_hostile(cp)) {
		(void)snprintf(out, LB_TEXT_UNIT, cp < 0x80 ? "\\x%02x" : "\\u%04x", cp);
	} else if (quoted && (cp == '"' || cp == '\\')) {
		out[0] = '\\';
		out[1] = (char)cp;
		out[2] = 0;
	} else {
		memcpy(out, s, n);
		out[n] = 0;
	}
	return n;
}

const char *lb_text_escape(char *out, size_t out_bytes, const char *s)
{
	char unit[LB_TEXT_UNIT];
	size_t len = 0;

	if (out_bytes == 0)
		return out;
	while (*s != 0) {
		size_t used = lb_text_unit(unit, s, false);
		size_t n = strlen(unit);

		if (len + n >= out_bytes)
			break;
		memcpy(out + len, unit, n);
		len += n;
		s += used;
	}
	out[len] = 0;
	return out;
}
