/*
 * base/text.h - text for people: stepping through UTF-8, and numbers as a person reads them.
 *
 * Used by everything that shows something (CLI, terminal UI, reports), so that the same number
 * looks the same everywhere. lb_text_escape() for foreign text is in log.h. Thread: any.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define LB_HUMAN_BYTES 32u /* enough for every lb_human_*() */

/* Bytes of the well-formed UTF-8 character at @s (Unicode 15, table 3-7) and its code point; 0 when
 * it is none, or the end. Reads no further than the NUL. */
size_t lb_utf8_next(const char *s, uint32_t *out);
/* Make @s well-formed, in place: half a character at its end (a buffer was too short) is cut off,
 * each other byte that is part of none becomes '?'. Returns @s. */
char *lb_utf8_clean(char *s);

/* Into @out, LB_HUMAN_BYTES long; each returns @out. */
const char *lb_human_bytes(char *out, uint64_t n);       /* "1.5 GiB" */
const char *lb_human_duration(char *out, uint64_t ns);   /* "850 ms", "3.2 s", "4 m 10 s" */
const char *lb_human_wall(char *out, uint64_t wall_ns);  /* "2026-11-22 03:04:05" local; 0: "-" */
const char *lb_human_clock(char *out, uint64_t wall_ns); /* "03:04:05" local; 0: "-" */

#endif
