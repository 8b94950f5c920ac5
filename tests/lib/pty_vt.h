/*
 * tests/lib/pty_vt.h - a program in a pseudo terminal whose screen a test can read (libvterm).
 *
 * Every wait ends by itself after 30 s with what is on the screen: nothing hangs, nothing sleeps.
 */
#ifndef TESTS_PTY_VT_H
#define TESTS_PTY_VT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <termios.h>

struct pty_vt;

/* Start @argv with @env (both NULL-terminated; env replaces the test's own). */
struct pty_vt *pty_vt_start(const char *const *argv, const char *const *env, int columns, int rows);
/* Ends the program if it still runs (SIGKILL), frees all. */
void pty_vt_end(struct pty_vt *p);
void pty_vt_mute(struct pty_vt *p); /* it does not answer the program's questions any more */
/* It is one that draws characters of ambiguous width in two columns, and says so. */
void pty_vt_wide(struct pty_vt *p);
/* From here on its answers come in two pieces, as over a line that cut them. */
void pty_vt_torn(struct pty_vt *p);
/* Type @byte and wait until the program has read it; what it writes is left where it is. */
void pty_vt_type_unseen(struct pty_vt *p, char byte);
pid_t pty_vt_pid(const struct pty_vt *p);
void pty_vt_type(struct pty_vt *p, const char *bytes);
void pty_vt_size(struct pty_vt *p, int columns, int rows);
/* Until @text is on the screen, or is not any more. */
void pty_vt_wait(struct pty_vt *p, const char *text);
void pty_vt_wait_long(struct pty_vt *p, const char *text, int64_t ms); /* instead of 30 s */
void pty_vt_wait_gone(struct pty_vt *p, const char *text);
bool pty_vt_shows(struct pty_vt *p, const char *text);
/* The screen, one line per row, trailing spaces cut; free it. */
char *pty_vt_screen(struct pty_vt *p);
/* Read until the program has ended (or, @stopped, has stopped); returns its wait status. */
int pty_vt_wait_end(struct pty_vt *p, bool stopped);
/* Is a colour of the terminal's table used in any cell? */
bool pty_vt_coloured(struct pty_vt *p);
bool pty_vt_alternate(const struct pty_vt *p); /* the alternate screen is shown */
bool pty_vt_cursor(const struct pty_vt *p);    /* the cursor is shown */
const char *pty_vt_title(const struct pty_vt *p);
uint64_t pty_vt_bytes(const struct pty_vt *p); /* that the program has written */
bool pty_vt_ascii(const struct pty_vt *p);     /* all of them below 0x80 */
/* Are the terminal's settings as they were before the program began? */
bool pty_vt_settings_kept(const struct pty_vt *p);

#endif
