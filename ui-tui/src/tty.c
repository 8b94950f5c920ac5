#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "tty_int.h"

#define PATIENCE_NS      UINT64_C(3000000000)
#define PATIENCE_BYTE_NS UINT64_C(4000000) /* 2 kbit/s: slower lines are drawn over */
#define ASKED_MAX        64u               /* never answered: not asked any more */

/* Another user's terminal (su) cannot be opened: then @fd itself. */
static int reopen(int fd, int mode)
{
	char path[32];
	int own;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return own >= 0 ? own : fd;
}

int ui_tty_open(struct ui_tty *t, struct lb_err *err)
{
	int memory;

	*t = (struct ui_tty){.in = -1, .out = -1};
	if (tcgetattr(STDIN_FILENO, &t->before) != 0)
		return lb_err_errno(err, errno, "settings of the terminal");
	t->raw = t->before;
	t->raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ECHONL);
	t->raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IGNCR);
	t->raw.c_oflag &= ~(tcflag_t)ONLCR;
	t->raw.c_cc[VMIN] = 1;
	t->raw.c_cc[VTIME] = 0;
	memory = memfd_create("lifeboat-tui", MFD_CLOEXEC);
	if (memory < 0)
		return lb_err_errno(err, errno, "memory for the screen");
	t->into = fdopen(memory, "w");
	if (t->into == NULL) {
		(void)close(memory);
		return lb_err_set(err, LB_ENOMEM, 0, "memory for the screen");
	}
	for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++)
		t->flags[fd] = fcntl(fd, F_GETFL);
	t->in = reopen(STDIN_FILENO, O_RDONLY);
	t->out = reopen(STDOUT_FILENO, O_WRONLY);
	return 0;
}

void ui_tty_close(struct ui_tty *t)
{
	if (t->in > STDERR_FILENO)
		(void)close(t->in);
	if (t->out > STDERR_FILENO)
		(void)close(t->out);
	if (t->into != NULL)
		(void)fclose(t->into);
	free(t->bytes);
	*t = (struct ui_tty){.in = -1, .out = -1};
}

static void set_flags(const struct ui_tty *t, int more)
{
	if (t->in == STDIN_FILENO)
		(void)fcntl(STDIN_FILENO, F_SETFL, t->flags[STDIN_FILENO] | more);
	if (t->out == STDOUT_FILENO)
		(void)fcntl(STDOUT_FILENO, F_SETFL, t->flags[STDOUT_FILENO] | more);
}

/* TCSANOW: TCSADRAIN would wait for a terminal that takes nothing. */
void ui_tty_raw(const struct ui_tty *t)
{
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &t->raw);
	set_flags(t, O_NONBLOCK);
}

void ui_tty_cooked(const struct ui_tty *t)
{
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &t->before);
	set_flags(t, 0);
}

/* ---- what is to be written ---- */

static char *make_room(struct ui_tty *t, size_t n)
{
	if (t->at > 0) {
		memmove(t->bytes, t->bytes + t->at, t->len - t->at);
		t->len -= t->at;
		t->at = 0;
	}
	if (t->len + n > t->room) {
		t->room = (t->len + n) * 2;
		t->bytes = realloc(t->bytes, t->room);
		LB_ASSERT(t->bytes != NULL);
	}
	return t->bytes + t->len;
}

void ui_tty_add(struct ui_tty *t, const char *bytes)
{
	size_t n = strlen(bytes);

	memcpy(make_room(t, n), bytes, n);
	t->len += n;
}

static void empty_memory(int memory)
{
	int rc = ftruncate(memory, 0);

	LB_ASSERT(rc == 0 && lseek(memory, 0, SEEK_SET) == 0);
}

void ui_tty_drop(struct ui_tty *t)
{
	empty_memory(fileno(t->into));
}

void ui_tty_collect(struct ui_tty *t)
{
	int memory = fileno(t->into);
	off_t n = lseek(memory, 0, SEEK_END);

	if (n <= 0)
		return;
	/* banned-ok: our own memory, read whole */
	if (pread(memory, make_room(t, (size_t)n), (size_t)n, 0) == n)
		t->len += (size_t)n;
	empty_memory(memory);
}

/* ---- one frame under way ---- */

void ui_tty_ask(struct ui_tty *t, uint64_t now_ns)
{
	size_t bytes = t->len - t->at;

	if (!t->asks || bytes == 0)
		return;
	if (!t->answers && t->waiting >= ASKED_MAX) {
		t->asks = false;
		return;
	}
	ui_tty_add(t, UI_TTY_ASK);
	t->waiting++;
	t->asked_ns = now_ns;
	t->patience_ns = PATIENCE_NS + bytes * PATIENCE_BYTE_NS;
}

void ui_tty_answered(struct ui_tty *t)
{
	t->waiting -= t->waiting > 0 ? 1 : 0;
	t->answers = true;
}

void ui_tty_force(struct ui_tty *t)
{
	t->waiting = 0;
}

bool ui_tty_ready(struct ui_tty *t, uint64_t now_ns)
{
	if (t->at < t->len)
		return false;
	if (t->waiting == 0 || !t->answers)
		return true;
	if (now_ns - t->asked_ns < t->patience_ns)
		return false;
	t->answers = false; /* until the next answer */
	t->waiting = 0;
	return true;
}

/* ---- to the terminal ---- */

bool ui_tty_flush(struct ui_tty *t)
{
	while (t->at < t->len && !t->gone) {
		/* banned-ok: a terminal, which takes a part */
		ssize_t n = write(t->out, t->bytes + t->at, t->len - t->at);

		if (n > 0)
			t->at += (size_t)n;
		else if (n < 0 && errno == EAGAIN)
			return true;
		else if (n == 0 || errno != EINTR)
			t->gone = true;
	}
	t->at = t->len = 0;
	return false;
}

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void ui_tty_finish(struct ui_tty *t, unsigned ms)
{
	struct pollfd p = {.fd = t->out, .events = POLLOUT};
	int64_t until = now_ms() + ms;

	while (ui_tty_flush(t) && now_ms() < until)
		(void)poll(&p, 1, 50);
	if (t->at < t->len) {
		(void)tcflush(t->out, TCOFLUSH);
		t->at = t->len = 0;
	}
}
