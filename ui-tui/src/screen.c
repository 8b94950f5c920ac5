#include "screen_int.h"

#define NCURSES_WIDECHAR 1
#include <curses.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#undef columns /* term.h has such names as macros */
#undef lines

#include "base/err.h"
#include "base/text.h"
#include "ui-tui/app.h"

#define RESTORE_BYTES 256u
#define PAIRS         (UI_STYLES + 1)

/*
 * The one global state of the program: curses has its own, and a handler of a fatal signal gets no
 * argument. Written before the handler is installed, only read by it.
 */
static struct {
	bool open;
	SCREEN *curses;
	struct termios before;
	char restore[RESTORE_BYTES]; /* what gives the terminal back */
	size_t restore_bytes;
	attr_t attr[UI_STYLES];
	short pair[UI_STYLES];
} screen;

/* ---- giving it back when we die ---- */

static void on_fatal(int signo)
{
	/* banned-ok: nothing else may be called in a signal handler */
	ssize_t n = write(STDOUT_FILENO, screen.restore, screen.restore_bytes);

	(void)n;
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &screen.before);
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

	screen.restore_bytes = 0;
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

int ui_screen_open(enum ui_theme theme, struct lb_err *err)
{
	int rc = check_terminal(err);

	if (rc != 0)
		return rc;
	if (tcgetattr(STDIN_FILENO, &screen.before) != 0)
		return lb_err_errno(err, errno, "settings of the terminal");
	screen.curses = newterm(NULL, stdout, stdin);
	if (screen.curses == NULL)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "curses does not start on this terminal");
	screen.open = true;
	catch_fatal();
	(void)cbreak();
	(void)noecho();
	(void)nonl(); /* Enter is \r then, whatever the line discipline thinks */
	(void)keypad(stdscr, TRUE);
	define_plain_keys();
	(void)nodelay(stdscr, TRUE);
	(void)meta(stdscr, TRUE);
	(void)set_escdelay(25);
	(void)curs_set(0);
	set_looks(theme);
	return 0;
}

void ui_screen_close(void)
{
	if (!screen.open)
		return;
	screen.open = false;
	(void)endwin();
	delscreen(screen.curses);
	screen.curses = NULL;
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
		wide[n++] = (wchar_t)cp;
		p += k;
	}
	wide[n] = L'\0';
	if (setcchar(&cell, wide, screen.attr[c->style], screen.pair[c->style], NULL) == OK)
		(void)mvadd_wch(y, x, &cell);
}

void ui_screen_draw(const struct ui_grid *g)
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
}

void ui_screen_repaint(void)
{
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

bool ui_screen_key(uint32_t *key)
{
	wint_t c = 0;
	int kind = get_wch(&c);

	if (kind == ERR)
		return false;
	*key = kind == KEY_CODE_YES ? from_curses(c) : (uint32_t)c;
	if (*key == '\r')
		*key = UI_K_ENTER;
	return true;
}

void ui_screen_size(int *w, int *h)
{
	struct winsize ws = {0};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_row > 0 && ws.ws_col > 0 &&
	    (ws.ws_row != LINES || ws.ws_col != COLS))
		(void)resizeterm(ws.ws_row, ws.ws_col);
	*w = COLS;
	*h = LINES;
}

void ui_screen_suspend(void)
{
	(void)endwin();
}

void ui_screen_resume(void)
{
	(void)refresh();
	(void)clearok(curscr, TRUE);
}
