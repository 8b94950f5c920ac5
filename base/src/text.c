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

/* Characters that a terminal acts on, or that make text look other than it is. */
static bool is_hostile(uint32_t cp)
{
	if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
		return true;
	return cp == 0x00ad || cp == 0x061c || cp == 0x180e || cp == 0x200b || cp == 0x200e ||
	       cp == 0x200f || (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2060 && cp <= 0x206f) ||
	       cp == 0xfeff || (cp >= 0xfff9 && cp <= 0xfffb) || (cp >= 0xe0000 && cp <= 0xe0fff);
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
