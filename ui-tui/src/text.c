#include "base/text.h"

#include <string.h>
#include <strings.h>
#include <wchar.h>

#include "base/log.h"
#include "text_int.h"

bool ui_clean(char *out, size_t out_bytes, const char *raw)
{
	size_t len;

	(void)lb_text_escape(out, out_bytes, raw);
	len = strlen(out);
	if (strcmp(out, raw) == 0)
		return true;
	if (len + 16 >= out_bytes && out_bytes > 4) { /* cut: say so */
		size_t at = len < out_bytes - 4 ? len : out_bytes - 4;

		while (at > 0 && ((unsigned char)out[at] & 0xc0u) == 0x80u)
			at--; /* not inside a character */
		memcpy(out + at, "...", 4);
	}
	return false;
}

void ui_name_set(struct ui_name *n, const char *raw)
{
	n->exact = ui_clean(n->show, sizeof(n->show), raw != NULL ? raw : "");
}

/* ---- console lines ---- */

/* Bytes of the escape sequence at @p (which is ESC), at least 1: CSI up to its final byte, OSC and
 * the other strings up to BEL or ESC \, else two. */
static size_t escape_bytes(const char *p, size_t len)
{
	size_t i = 2;

	if (len < 2)
		return 1;
	if (p[1] == '[') {
		while (i < len && ((unsigned char)p[i] < 0x40 || (unsigned char)p[i] > 0x7e))
			i++;
		return i < len ? i + 1 : len;
	}
	if (strchr("]PX^_", p[1]) != NULL) {
		while (i < len && p[i] != '\a' && p[i] != '\033')
			i++;
		if (i < len && p[i] == '\033' && i + 1 < len)
			i++;
		return i < len ? i + 1 : len;
	}
	if (strchr("()*+ #%", p[1]) != NULL)
		return len < 3 ? len : 3;
	return 2;
}

static size_t one_back(const char *s, size_t len)
{
	while (len > 0 && ((unsigned char)s[len - 1] & 0xc0u) == 0x80u)
		len--;
	return len > 0 ? len - 1 : 0;
}

void ui_clean_console(char *out, size_t out_bytes, const char *raw, size_t len)
{
	char plain[UI_LINE_BYTES];
	size_t n = 0, i = 0;

	while (i < len) {
		char c = raw[i];

		if (c == '\033') {
			i += escape_bytes(raw + i, len - i);
			continue;
		}
		if (c == '\r' && i + 1 < len)
			n = 0;
		else if (c == '\b')
			n = one_back(plain, n);
		else if (c == '\t' && n + 1 < sizeof(plain))
			plain[n++] = ' ';
		else if (c != '\0' && c != '\r' && n + 1 < sizeof(plain))
			plain[n++] = c;
		i++;
	}
	plain[n] = '\0';
	(void)ui_clean(out, out_bytes, plain);
}

/* ---- columns ---- */

int ui_char_columns(uint32_t cp)
{
	if (cp >= 0x20 && cp < 0x7f)
		return 1;
	return cp < 0xa0 ? -1 : wcwidth((wchar_t)cp);
}

int ui_columns(const char *text)
{
	uint32_t cp;
	int sum = 0;

	for (size_t n = lb_utf8_next(text, &cp); n > 0; n = lb_utf8_next(text, &cp)) {
		int w = ui_char_columns(cp);

		sum += w < 0 ? 1 : w;
		text += n;
	}
	return sum;
}

bool ui_contains(const char *text, const char *part)
{
	size_t n = strlen(part);

	for (; n > 0 && *text != '\0'; text++)
		if (strncasecmp(text, part, n) == 0)
			return true;
	return n == 0;
}
