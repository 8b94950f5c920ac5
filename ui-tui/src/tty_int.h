/*
 * ui-tui/src/tty_int.h - the way to the terminal: what curses wrote, given to it without waiting.
 *
 * curses writes into memory; from there the bytes go out as the terminal takes them, so a terminal
 * that takes nothing (Ctrl-S, a dead link) stops nobody. Behind it there may be queues that we do
 * not see: sshd, TCP, a slow line. So each frame ends with a question that terminals answer (DSR),
 * and the next frame waits for the answer: one frame is under way at most, and what changes
 * meanwhile is drawn once, as it is then.
 *
 *   READY ──frame──► SENDING ──all is written──► ASKED ──answer──► READY
 *     ▲                                            │
 *     └── no answer in time: it counts as a terminal that does not answer, and is not waited for
 *
 * Invariant: (T1) a frame is written whole or not at all, also when the program ends.
 * Thread: the UI's. One per process.
 */
#ifndef UI_TTY_INT_H
#define UI_TTY_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <termios.h>

struct lb_err;

#define UI_TTY_ASK    "\033[5n" /* "are you well?" of ECMA-48 */
#define UI_TTY_ANSWER "\033[0n"

struct ui_tty {
	int in, out;  /* opened anew: O_NONBLOCK on them is not on the shell's */
	int flags[2]; /* of stdin and stdout, when these had to be taken instead */
	FILE *into;   /* what curses writes to: memory */
	char *bytes;  /* not taken yet: from .at to .len */
	size_t at, len, room;
	bool asks;        /* it is of a kind that may know the question */
	bool answers;     /* it has answered the last one */
	unsigned waiting; /* questions without an answer */
	uint64_t asked_ns, patience_ns;
	bool gone; /* no terminal any more */
	struct termios before, raw;
};

/* Errors: LB_EIO, LB_ENOMEM. */
int ui_tty_open(struct ui_tty *t, struct lb_err *err);
void ui_tty_close(struct ui_tty *t); /* drops what was not taken */
void ui_tty_raw(const struct ui_tty *t);
/* As it was. Async-signal-safe. */
void ui_tty_cooked(const struct ui_tty *t);

/* What curses has written since; drop forgets it. */
void ui_tty_collect(struct ui_tty *t);
void ui_tty_drop(struct ui_tty *t);
void ui_tty_add(struct ui_tty *t, const char *bytes);
/* Ask behind what is to be written: the frame ends here. */
void ui_tty_ask(struct ui_tty *t, uint64_t now_ns);
void ui_tty_answered(struct ui_tty *t);
/* May the next frame be drawn? */
bool ui_tty_ready(struct ui_tty *t, uint64_t now_ns);
void ui_tty_force(struct ui_tty *t); /* wait for no answer that is out */
/* Write what it takes now; true: there is more, when it is writable. */
bool ui_tty_flush(struct ui_tty *t);
/* Wait until all is written, at most so long; then what the kernel still holds is dropped. */
void ui_tty_finish(struct ui_tty *t, unsigned ms);

#endif
