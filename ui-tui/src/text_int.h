/*
 * ui-tui/src/text_int.h - foreign text made safe to show, and how many columns it takes.
 *
 * Names come from peers, guests and files. What reaches a cell was cleaned when it entered the
 * model: no control character, no escape sequence, no bidirectional mark, valid UTF-8, bounded.
 */
#ifndef UI_TEXT_INT_H
#define UI_TEXT_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UI_NAME_BYTES 136u
#define UI_LINE_BYTES 512u

/* A name to show and to send back. An action wants it exact: what was escaped or cut for the
 * screen is not the name any more. */
struct ui_name {
	char show[UI_NAME_BYTES];
	bool exact;
};
void ui_name_set(struct ui_name *n, const char *raw /* NULL: "" */);

/* Clean @raw into @out; what does not fit ends in "...". Returns whether it is unchanged. */
bool ui_clean(char *out, size_t out_bytes, const char *raw);
/* The same for one line of a serial console: escape sequences are dropped whole, a carriage return
 * begins the line again, a backspace goes back. @len bytes at @raw. */
void ui_clean_console(char *out, size_t out_bytes, const char *raw, size_t len);

/* Columns of a code point in this locale: 0 combining, 1, 2; -1: cannot be shown. */
int ui_char_columns(uint32_t cp);
/* Does it take two columns in terminals that are set so (Japanese habits), against wcwidth()? */
bool ui_char_ambiguous(uint32_t cp);
/* Columns of clean text; what cannot be shown counts as the one "?" that stands for it. */
int ui_columns(const char *text);
/* Does @text hold @part? Letters of ASCII in either case are equal; "" is in every text. */
bool ui_contains(const char *text, const char *part);

#endif
