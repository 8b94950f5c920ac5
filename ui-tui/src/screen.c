#include "screen_int.h"

#define NCURSES_WIDECHAR 1
#include <curses.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <unistd.h>
#include <wchar.h>

#undef columns /* term.h has such names as macros */
#undef lines

#include "base/env.h"
#include "base/err.h"
#include "base/text.h"
#include "text_int.h"
#include "tty_int.h"
#include "ui-tui/app.h"

#define RESTORE_BYTES 256u
#define LINGER_MS     3000u
#define FINISH_MS     1000u

/* Answers of the terminal, as keys that no keyboard has. */
#define KEY_ANSWER KEY_F(61)
#define KEY_NARROW KEY_F(62)
#define KEY_WIDE   KEY_F(63)

/* How wide is a line of a frame here? Where the cursor is then (CPR) tells: column 2 or 3. Not in
 * line 1, where the answer would be that of Shift-F3. */
#define ASK_WIDTH "\033[2;1H─\033[6n"

/* tmux answers that for itself. Where it lets one through (allow-passthrough; always before 3.3),
 * the terminal around it is asked, too: two columns are made free in its line 2 and taken away
 * again, as what stands there may be of another pane. It drops what comes while it is about to draw
 * the pane anew, as at our start: so later, and more than once. */
#define ASK_AROUND                                                  \
	"\033Ptmux;\033\0337\033\033[2;1H\033\033[2@─\033\033[6n" \
	"\033\033[2;1H\033\033[2P\033\0338\033\\"

/* How long the rest of a key's bytes may take after Esc. An answer that is under way may come in
 * pieces over a slow line: its digits are not to be taken for keys. */
#define ESC_MS    25
#define ANSWER_MS 400

#define AROUND_NS    UINT64_C(5000000000) /* how long the terminal around tmux may take */
#define AROUND_GAP   UINT64_C(700000000)
#define AROUND_TRIES 3u

/*
 * The one global state of the program: curses has its own, and a handler of a fatal signal gets no
 * argument. Written before the handler is installed, only read by it.
 */
static struct {
	bool open;
	SCREEN *curses;
	struct ui_tty tty;
	bool wide; /* characters of ambiguous width take two columns here */
	struct {
		unsigned tries; /* left; 0: not in tmux, or it has answered */
		uint64_t next_ns, until_ns;
	} around;
	char restore[RESTORE_BYTES]; /* what gives the terminal back */
	size_t restore_bytes;
	attr_t attr[UI_STYLES];
	short pair[UI_STYLES];
} screen;

/* ---- giving it back when we die ---- */

static void on_fatal(int signo)
{
	/* banned-ok: nothing else may be called in a signal handler */
	ssize_t n = write(screen.tty.out, screen.restore, screen.restore_bytes);

	(void)n;
	ui_tty_cooked(&screen.tty);
	(void)raise(signo); /* SA_RESETHAND: now for good */
}

/* terminfo answers NULL, or -1 when the name is none of a string. */
static bool is_there(const char *capability)
{
	return capability != NULL && (intptr_t)capability != -1;
}

static void add_restore(const char *capability)
{
	const char *s = tigetstr(capability);
	size_t n = is_there(s) ? strlen(s) : 0;

	if (n == 0 || screen.restore_bytes + n > RESTORE_BYTES)
		return;
	memcpy(screen.restore + screen.restore_bytes, s, n);
	screen.restore_bytes += n;
}

static void catch_fatal(void)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
	struct sigaction sa = {.sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND};

	screen.restore[0] = '\030'; /* CAN: the end of a sequence that was cut */
	screen.restore_bytes = 1;
	add_restore("sgr0");
	add_restore("rmkx");
	add_restore("rmcup");
	add_restore("cnorm");
	(void)sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		(void)sigaction(fatal[i], &sa, NULL);
}

/* ---- opening ---- */

static void set_looks(enum ui_theme theme)
{
	bool colours = theme != UI_THEME_MONO && has_colors() && start_color() == OK &&
		       use_default_colors() == OK && COLORS >= 8;

	for (int s = 0; s < UI_STYLES; s++) {
		struct ui_look l = ui_theme_look(colours ? theme : UI_THEME_MONO, (enum ui_style)s);

		screen.attr[s] = (l.bold ? A_BOLD : 0) | (l.reverse ? A_REVERSE : 0) |
				 (l.underline ? A_UNDERLINE : 0) | (l.dim ? A_DIM : 0);
		screen.pair[s] = 0;
		if (colours && (l.fg >= 0 || l.bg >= 0) &&
		    init_pair((short)(s + 1), l.fg, l.bg) == OK)
			screen.pair[s] = (short)(s + 1);
	}
}

/* Terminals that do not switch their cursor keys when they are told to send these. */
static void define_plain_keys(void)
{
	static const struct {
		const char *bytes;
		int key;
	} plain[] = {{"\033[A", KEY_UP},   {"\033[B", KEY_DOWN}, {"\033[C", KEY_RIGHT},
		     {"\033[D", KEY_LEFT}, {"\033[H", KEY_HOME}, {"\033[F", KEY_END}};

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (key_defined(plain[i].bytes) == 0)
			(void)define_key(plain[i].bytes, plain[i].key);
}

static int check_terminal(struct lb_err *err)
{
	static const char instead[] = "use `lifeboat watch --plain` and `lifeboat status` here";
	const char *term = getenv("TERM"), *cup;
	int why = 0;
	bool can;

	if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "the terminal UI needs a terminal; %s",
				  instead);
	if (term == NULL || term[0] == '\0')
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "TERM is not set; %s", instead);
	if (setupterm(term, STDOUT_FILENO, &why) != OK)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "terminal type TERM=%.40s is not known here; %s", term, instead);
	cup = tigetstr("cup");
	can = is_there(cup);
	(void)del_curterm(cur_term); /* newterm() makes its own */
	return can ? 0
		   : lb_err_set(err, LB_EUNSUPPORTED, 0,
				"terminal type TERM=%.40s cannot move the cursor; %s", term,
				instead);
}

static void define_answers(const char *cup)
{
	screen.tty.asks = is_there(cup) && strncmp(cup, "\033[", 2) == 0;
	(void)define_key(UI_TTY_ANSWER, KEY_ANSWER);
	(void)define_key("\033[2;2R", KEY_NARROW);
	(void)define_key("\033[2;3R", KEY_WIDE);
}

/* curses begins with the size that the terminal's kind has; it is told of the real one before
 * anything is written, as the scrolling region is among it. */
static void begin_with_size(void)
{
	int w, h;

	ui_screen_size(&w, &h);
	(void)endwin();
	ui_tty_drop(&screen.tty);
	ui_tty_raw(&screen.tty);
	(void)refresh();
	(void)keypad(stdscr, TRUE);
	ui_tty_collect(&screen.tty);
}

static void ask_width(uint64_t now_ns)
{
	const char *tmux = getenv("TMUX");

	if (tmux != NULL && tmux[0] != '\0') {
		screen.around.tries = AROUND_TRIES;
		screen.around.next_ns = now_ns + AROUND_GAP;
	}
	ui_tty_add(&screen.tty, ASK_WIDTH);
	ui_tty_ask(&screen.tty, now_ns);
}

static void ask_around(uint64_t now_ns)
{
	if (screen.around.tries == 0 || now_ns < screen.around.next_ns)
		return;
	ui_tty_add(&screen.tty, ASK_AROUND);
	screen.around.tries--;
	screen.around.next_ns = now_ns + AROUND_GAP;
	screen.around.until_ns = now_ns + AROUND_NS;
}

int ui_screen_open(enum ui_theme theme, bool utf8, struct lb_err *err)
{
	struct lb_env *env = lb_env_real();
	int rc = check_terminal(err);

	if (rc == 0)
		rc = ui_tty_open(&screen.tty, err);
	if (rc != 0)
		return rc;
	screen.curses = newterm(NULL, screen.tty.into, stdin);
	if (screen.curses == NULL) {
		ui_tty_close(&screen.tty);
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "curses does not start on this terminal");
	}
	screen.open = true;
	screen.wide = false;
	memset(&screen.around, 0, sizeof(screen.around));
	catch_fatal();
	(void)noecho();
	(void)nonl();        /* Enter is \r then, whatever the line discipline thinks */
	(void)typeahead(-1); /* frames are drawn whole */
	(void)nodelay(stdscr, TRUE);
	(void)meta(stdscr, TRUE);
	(void)set_escdelay(ESC_MS);
	set_looks(theme);
	begin_with_size();
	define_plain_keys();
	define_answers(tigetstr("cup"));
	(void)curs_set(0);
	if (utf8 && screen.tty.asks)
		ask_width(env->now_ns(env));
	(void)clearok(curscr, TRUE);
	(void)ui_tty_flush(&screen.tty);
	return 0;
}

/* What is out is answered before another program reads our keys, or it would get the answer. */
static void linger(void)
{
	struct lb_env *env = lb_env_real();
	uint64_t until = env->now_ns(env) + LINGER_MS * UINT64_C(1000000);
	struct pollfd p = {.fd = screen.tty.in, .events = POLLIN};
	uint32_t dropped;

	ui_tty_finish(&screen.tty, FINISH_MS);
	while (screen.tty.answers && screen.tty.waiting > 0 && !screen.tty.gone &&
	       env->now_ns(env) < until) {
		if (poll(&p, 1, 50) == 1 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
			break;
		while (ui_screen_key(&dropped))
			;
	}
	ui_tty_force(&screen.tty);
}

void ui_screen_suspend(void)
{
	linger();
	(void)endwin();
	ui_tty_collect(&screen.tty);
	ui_tty_finish(&screen.tty, FINISH_MS);
	ui_tty_cooked(&screen.tty);
}

void ui_screen_resume(void)
{
	ui_tty_raw(&screen.tty);
	(void)refresh();
	(void)keypad(stdscr, FALSE); /* curses thinks that it is on already */
	(void)keypad(stdscr, TRUE);
	(void)clearok(curscr, TRUE);
	ui_tty_collect(&screen.tty);
	(void)ui_tty_flush(&screen.tty);
}

void ui_screen_close(void)
{
	if (!screen.open)
		return;
	ui_screen_suspend();
	screen.open = false;
	delscreen(screen.curses);
	screen.curses = NULL;
	ui_tty_close(&screen.tty);
}

/* ---- the way out ---- */

int ui_screen_in(void)
{
	return screen.tty.in;
}

int ui_screen_out(void)
{
	return screen.tty.out;
}

bool ui_screen_flush(void)
{
	return ui_tty_flush(&screen.tty);
}

bool ui_screen_ready(uint64_t now_ns)
{
	return ui_tty_ready(&screen.tty, now_ns);
}

bool ui_screen_gone(void)
{
	return screen.tty.gone;
}

bool ui_screen_wide(void)
{
	return screen.wide;
}

/* ---- drawing ---- */

static void put_cell(int y, int x, const struct ui_cell *c)
{
	wchar_t wide[CCHARW_MAX + 1];
	const char *p = c->text;
	size_t n = 0;
	uint32_t cp;
	cchar_t cell;

	for (size_t k = lb_utf8_next(p, &cp); k > 0 && n < CCHARW_MAX; k = lb_utf8_next(p, &cp)) {
		wide[n++] = screen.wide && ui_char_ambiguous(cp) ? L'?' : (wchar_t)cp;
		p += k;
	}
	wide[n] = L'\0';
	if (setcchar(&cell, wide, screen.attr[c->style], screen.pair[c->style], NULL) == OK)
		(void)mvadd_wch(y, x, &cell);
}

bool ui_screen_draw(const struct ui_grid *g, uint64_t now_ns)
{
	int h = g->h < LINES ? g->h : LINES, w = g->w < COLS ? g->w : COLS;

	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++) {
			const struct ui_cell *c = ui_grid_at(g, y, x);

			if (c->columns > 0 && x + c->columns <= w)
				put_cell(y, x, c);
		}
	if (g->cursor_y >= 0 && g->cursor_y < h && g->cursor_x < w) {
		(void)move(g->cursor_y, g->cursor_x);
		(void)curs_set(1);
	} else {
		(void)move(h - 1, w - 1);
		(void)curs_set(0);
	}
	(void)refresh();
	ui_tty_collect(&screen.tty);
	ask_around(now_ns);
	ui_tty_ask(&screen.tty, now_ns);
	return ui_tty_flush(&screen.tty);
}

void ui_screen_repaint(void)
{
	ui_tty_force(&screen.tty);
	(void)clearok(curscr, TRUE);
}

/* ---- keys and size ---- */

static uint32_t from_curses(wint_t c)
{
	static const struct {
		wint_t curses;
		uint32_t key;
	} map[] = {
		{KEY_UP, UI_K_UP},
		{KEY_DOWN, UI_K_DOWN},
		{KEY_LEFT, UI_K_LEFT},
		{KEY_RIGHT, UI_K_RIGHT},
		{KEY_PPAGE, UI_K_PAGE_UP},
		{KEY_NPAGE, UI_K_PAGE_DOWN},
		{KEY_HOME, UI_K_HOME},
		{KEY_END, UI_K_END},
		{KEY_DC, UI_K_DELETE},
		{KEY_BTAB, UI_K_BACKTAB},
		{KEY_BACKSPACE, UI_K_BACKSPACE},
		{KEY_ENTER, UI_K_ENTER},
	};

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (map[i].curses == c)
			return map[i].key;
	if (c >= KEY_F(1) && c <= KEY_F(10))
		return UI_K_F1 + (uint32_t)(c - KEY_F(1));
	return 0;
}

/* Was it an answer of the terminal? */
static bool is_answer(wint_t c)
{
	if (c == KEY_ANSWER)
		ui_tty_answered(&screen.tty);
	else if (c == KEY_WIDE)
		screen.wide = true;
	if ((c == KEY_WIDE || c == KEY_NARROW) && screen.around.until_ns != 0) {
		screen.around.tries = 0;
		(void)clearok(curscr, TRUE); /* the end of line 2 was shifted out */
	}
	return c == KEY_ANSWER || c == KEY_WIDE || c == KEY_NARROW;
}

/* May the next bytes be the terminal's? */
static bool answer_due(void)
{
	struct lb_env *env = lb_env_real();

	return (screen.tty.answers && screen.tty.waiting > 0) ||
	       env->now_ns(env) < screen.around.until_ns;
}

bool ui_screen_key(uint32_t *key)
{
	wint_t c = 0;
	int kind;

	do {
		(void)set_escdelay(answer_due() ? ANSWER_MS : ESC_MS);
		kind = get_wch(&c);
		if (kind == ERR)
			return false;
	} while (kind == KEY_CODE_YES && is_answer(c));
	*key = kind == KEY_CODE_YES ? from_curses(c) : (uint32_t)c;
	if (*key == '\r')
		*key = UI_K_ENTER;
	return true;
}

void ui_screen_size(int *w, int *h)
{
	struct winsize ws = {0};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_row > 0 && ws.ws_col > 0 &&
	    (ws.ws_row != LINES || ws.ws_col != COLS)) {
		/* resizeterm() would add a key for each change to a queue that drops what is typed
		 * when it is full */
		(void)resize_term(ws.ws_row, ws.ws_col);
		(void)clearok(curscr, TRUE); /* what the terminal made of it is not known */
	}
	*w = COLS;
	*h = LINES;
}
