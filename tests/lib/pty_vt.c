#include "pty_vt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>
#include <vterm.h>

#define WAIT_MS 30000
#define TORN_MS 60 /* between the pieces of an answer: well over the wait for a key's bytes */

struct pty_vt {
	int master, slave; /* the slave stays open here: the terminal outlives the program */
	pid_t pid;
	struct termios before;
	VTerm *vt;
	VTermScreen *screen;
	int w, h;
	bool alternate, cursor, ended, mute, wide, torn;
	int flags; /* of the terminal as it was opened */
	int status;
	bool beyond_ascii;
	uint64_t bytes;
	char title[64];
};

static int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int on_property(VTermProp prop, VTermValue *val, void *user)
{
	struct pty_vt *p = user;

	if (prop == VTERM_PROP_ALTSCREEN)
		p->alternate = val->boolean != 0;
	else if (prop == VTERM_PROP_CURSORVISIBLE)
		p->cursor = val->boolean != 0;
	else if (prop == VTERM_PROP_TITLE)
		(void)snprintf(p->title, sizeof(p->title), "%s", val->string);
	return 1;
}

static const VTermScreenCallbacks callbacks = {.settermprop = on_property};

static void child(const struct pty_vt *p, const char *const *argv, const char *const *env)
{
	(void)close(p->master);
	if (login_tty(p->slave) != 0)
		_exit(126);
	(void)execve(argv[0], (char *const *)argv, (char *const *)env);
	_exit(127);
}

struct pty_vt *pty_vt_start(const char *const *argv, const char *const *env, int columns, int rows)
{
	struct pty_vt *p = calloc(1, sizeof(*p));
	struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};

	if (p == NULL || openpty(&p->master, &p->slave, NULL, NULL, &size) != 0)
		abort();
	(void)tcgetattr(p->slave, &p->before);
	p->flags = fcntl(p->slave, F_GETFL);
	p->w = columns;
	p->h = rows;
	p->cursor = true;
	p->vt = vterm_new(rows, columns);
	vterm_set_utf8(p->vt, 1);
	p->screen = vterm_obtain_screen(p->vt);
	vterm_screen_set_callbacks(p->screen, &callbacks, p);
	vterm_screen_enable_altscreen(p->screen, 1);
	vterm_screen_reset(p->screen, 1);
	p->pid = fork();
	if (p->pid < 0)
		abort();
	if (p->pid == 0)
		child(p, argv, env);
	return p;
}

void pty_vt_end(struct pty_vt *p)
{
	if (!p->ended) {
		(void)kill(p->pid, SIGKILL);
		(void)waitpid(p->pid, NULL, 0);
	}
	vterm_free(p->vt);
	(void)close(p->master);
	(void)close(p->slave);
	free(p);
}

pid_t pty_vt_pid(const struct pty_vt *p)
{
	return p->pid;
}

/* What the terminal answers to what was written to it. */
static void answer(struct pty_vt *p)
{
	char buf[256];
	size_t n = vterm_output_read(p->vt, buf, sizeof(buf)), first = 0;
	char *column = p->wide && n > 0 ? memmem(buf, n, ";2R", 3) : NULL;

	if (column != NULL)
		column[1] = '3';
	if (p->torn && n > 2) {
		first = 2;
		if (write(p->master, buf, first) != (ssize_t)first)
			abort();
		(void)poll(NULL, 0, TORN_MS);
	}
	if (n > 0 && !p->mute && write(p->master, buf + first, n - first) != (ssize_t)(n - first))
		abort();
}

/* What the program has written, at most @ms of waiting. */
static void pump(struct pty_vt *p, int ms)
{
	struct pollfd fd = {.fd = p->master, .events = POLLIN};
	char buf[4096];
	ssize_t n;

	if (poll(&fd, 1, ms) <= 0)
		return;
	n = read(p->master, buf, sizeof(buf));
	if (n <= 0)
		return;
	p->bytes += (uint64_t)n;
	for (ssize_t i = 0; i < n; i++)
		p->beyond_ascii = p->beyond_ascii || (buf[i] & 0x80) != 0;
	(void)vterm_input_write(p->vt, buf, (size_t)n);
	answer(p);
}

void pty_vt_mute(struct pty_vt *p)
{
	p->mute = true;
}

void pty_vt_torn(struct pty_vt *p)
{
	p->torn = true;
}

void pty_vt_wide(struct pty_vt *p)
{
	p->wide = true;
}

void pty_vt_type(struct pty_vt *p, const char *bytes)
{
	size_t len = strlen(bytes);

	while (len > 0) {
		ssize_t n = write(p->master, bytes, len);

		if (n < 0 && errno != EINTR)
			abort();
		n = n < 0 ? 0 : n;
		bytes += n;
		len -= (size_t)n;
		pump(p, 0);
	}
}

void pty_vt_size(struct pty_vt *p, int columns, int rows)
{
	struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};

	p->w = columns;
	p->h = rows;
	vterm_set_size(p->vt, rows, columns);
	(void)ioctl(p->master, TIOCSWINSZ, &size);
}

static size_t put_utf8(char *out, uint32_t cp)
{
	if (cp < 0x80) {
		out[0] = (char)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (char)(0xc0u | cp >> 6);
		out[1] = (char)(0x80u | (cp & 0x3fu));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (char)(0xe0u | cp >> 12);
		out[1] = (char)(0x80u | (cp >> 6 & 0x3fu));
		out[2] = (char)(0x80u | (cp & 0x3fu));
		return 3;
	}
	out[0] = (char)(0xf0u | cp >> 18);
	out[1] = (char)(0x80u | (cp >> 12 & 0x3fu));
	out[2] = (char)(0x80u | (cp >> 6 & 0x3fu));
	out[3] = (char)(0x80u | (cp & 0x3fu));
	return 4;
}

static size_t put_row(struct pty_vt *p, int row, char *out)
{
	size_t n = 0, end = 0;

	for (int col = 0; col < p->w;) {
		VTermScreenCell cell;
		VTermPos pos = {.row = row, .col = col};

		if (vterm_screen_get_cell(p->screen, pos, &cell) == 0)
			break;
		if (cell.chars[0] == 0)
			out[n++] = ' ';
		for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && cell.chars[i] != 0; i++)
			n += put_utf8(out + n, cell.chars[i]);
		if (cell.chars[0] != 0 && cell.chars[0] != ' ')
			end = n;
		col += cell.width > 0 ? cell.width : 1;
	}
	out[end] = '\n';
	return end + 1;
}

char *pty_vt_screen(struct pty_vt *p)
{
	char *out = calloc((size_t)p->h * ((size_t)p->w * VTERM_MAX_CHARS_PER_CELL * 4 + 1) + 1, 1);
	size_t n = 0;

	if (out == NULL)
		abort();
	for (int row = 0; row < p->h; row++)
		n += put_row(p, row, out + n);
	out[n] = '\0';
	return out;
}

bool pty_vt_shows(struct pty_vt *p, const char *text)
{
	char *screen = pty_vt_screen(p);
	bool found = strstr(screen, text) != NULL;

	free(screen);
	return found;
}

static void give_up(struct pty_vt *p, const char *what, const char *text)
{
	char *screen = pty_vt_screen(p);

	(void)fprintf(stderr, "%s \"%s\" in time; the screen:\n%s\n", what, text, screen);
	free(screen);
	(void)kill(p->pid, SIGKILL);
	abort();
}

static void wait_until(struct pty_vt *p, const char *text, bool there, int64_t ms)
{
	int64_t until = now_ms() + ms;

	while (pty_vt_shows(p, text) != there) {
		if (now_ms() > until)
			give_up(p, there ? "never saw" : "still saw", text);
		pump(p, 100);
	}
}

static int unread(int fd)
{
	int n = 0;

	if (ioctl(fd, FIONREAD, &n) != 0)
		abort();
	return n;
}

void pty_vt_type_unseen(struct pty_vt *p, char byte)
{
	int64_t until = now_ms() + WAIT_MS;
	struct pollfd nothing = {.fd = -1};

	if (write(p->master, &byte, 1) != 1)
		abort();
	while (unread(p->slave) > 0) {
		if (now_ms() > until)
			give_up(p, "did not read", "the key");
		(void)poll(&nothing, 1, 1);
	}
}

void pty_vt_wait(struct pty_vt *p, const char *text)
{
	wait_until(p, text, true, WAIT_MS);
}

void pty_vt_wait_long(struct pty_vt *p, const char *text, int64_t ms)
{
	wait_until(p, text, true, ms);
}

void pty_vt_wait_gone(struct pty_vt *p, const char *text)
{
	wait_until(p, text, false, WAIT_MS);
}

int pty_vt_wait_end(struct pty_vt *p, bool stopped)
{
	int64_t until = now_ms() + WAIT_MS;

	for (;;) {
		pid_t got = waitpid(p->pid, &p->status, WNOHANG | (stopped ? WUNTRACED : 0));

		pump(p, got == 0 ? 50 : 0);
		if (got == p->pid)
			break;
		if (now_ms() > until)
			give_up(p, "did not end", "");
	}
	p->ended = !WIFSTOPPED(p->status);
	for (int i = 0; i < 20; i++) /* what it wrote last */
		pump(p, 5);
	return p->status;
}

bool pty_vt_coloured(struct pty_vt *p)
{
	for (int row = 0; row < p->h; row++)
		for (int col = 0; col < p->w; col++) {
			VTermScreenCell cell;
			VTermPos pos = {.row = row, .col = col};

			if (vterm_screen_get_cell(p->screen, pos, &cell) != 0 &&
			    (VTERM_COLOR_IS_INDEXED(&cell.fg) || VTERM_COLOR_IS_INDEXED(&cell.bg)))
				return true;
		}
	return false;
}

bool pty_vt_alternate(const struct pty_vt *p)
{
	return p->alternate;
}

bool pty_vt_cursor(const struct pty_vt *p)
{
	return p->cursor;
}

const char *pty_vt_title(const struct pty_vt *p)
{
	return p->title;
}

uint64_t pty_vt_bytes(const struct pty_vt *p)
{
	return p->bytes;
}

bool pty_vt_ascii(const struct pty_vt *p)
{
	return !p->beyond_ascii;
}

bool pty_vt_settings_kept(const struct pty_vt *p)
{
	struct termios now;

	return fcntl(p->slave, F_GETFL) == p->flags && tcgetattr(p->slave, &now) == 0 &&
	       now.c_iflag == p->before.c_iflag && now.c_oflag == p->before.c_oflag &&
	       now.c_lflag == p->before.c_lflag && now.c_cflag == p->before.c_cflag;
}
