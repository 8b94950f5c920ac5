/* Carries out the orders of the machine: the loop, the terminal, the agent, commands, the editor.
 */
#include <errno.h>
#include <jansson.h>
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"
#include "base/loop.h"
#include "link_int.h"
#include "screen_int.h"
#include "ui-tui/app.h"
#include "ui-tui/grid.h"
#include "ui-tui/tui.h"

#define TICK_NS    UINT64_C(250000000)
#define LOOK_NS    UINT64_C(5000000000)
#define ACT_NS     UINT64_C(60000000000)
#define EDIT_WORDS 16u

enum link_use {
	LOOK,
	ACT,
	LINKS
};

struct shell;
struct caught {
	struct shell *shell;
	int signo;
};

struct shell {
	const struct ui_tui_cfg *cfg;
	struct lb_loop *loop;
	struct lb_env *env;
	struct lb_timer *tick;
	struct ui_app *app;
	struct ui_grid grid;
	struct ui_link *link[LINKS];
	struct lb_child *child;
	uv_poll_t *keys, *out;
	uv_process_t *editor; /* it has the terminal while it is there */
	struct caught caught[8];
	bool draw_posted, open;
	bool stale; /* what is shown is not what is so: to be drawn when the last frame is there */
	bool ascii;
	int status;
};

static void step(struct shell *s, struct ui_input *in);

static void hang_up(struct shell *s)
{
	s->status = 128 + SIGHUP;
	if (s->keys != NULL)
		(void)uv_poll_stop(s->keys);
	lb_loop_stop(s->loop);
}

/* ---- drawing: once after whatever came at the same time, and after the last frame is there ----
 */

static void draw_soon(struct shell *s);

static void wait_for_room(struct shell *s, bool more);

static void on_room(uv_poll_t *h, int status, int events)
{
	struct shell *s = h->data;

	(void)events;
	(void)uv_poll_stop(h);
	wait_for_room(s, status == 0 && ui_screen_flush());
	if (s->stale)
		draw_soon(s);
}

/* The terminal did not take all: go on when it can take more. */
static void wait_for_room(struct shell *s, bool more)
{
	if (ui_screen_gone())
		hang_up(s);
	else if (more && s->out != NULL)
		(void)uv_poll_start(s->out, UV_WRITABLE, on_room);
}

static void on_draw(void *arg)
{
	struct shell *s = arg;

	uint64_t now_ns = s->env->now_ns(s->env);

	s->draw_posted = false;
	if (s->editor != NULL || !s->open)
		return;
	s->stale = !ui_screen_ready(now_ns);
	if (s->stale)
		return;
	ui_app_draw(s->app, &s->grid);
	wait_for_room(s, ui_screen_draw(&s->grid, now_ns));
}

static void draw_soon(struct shell *s)
{
	if (s->draw_posted)
		return;
	s->draw_posted = true;
	lb_loop_post(s->loop, on_draw, s);
}

/* ---- commands ---- */

static void on_output(void *arg, const char *p, size_t len)
{
	struct ui_input in = {.kind = UI_IN_OUTPUT, .text = p, .len = len};

	step(arg, &in);
}

static void on_ended(void *arg, int exit_status, int term_signal, bool timed_out,
		     const char *output, size_t output_len)
{
	struct shell *s = arg;
	struct ui_input in = {.kind = UI_IN_EXIT,
			      .rc = term_signal != 0 ? 128 + term_signal : exit_status};

	(void)timed_out;
	(void)output;
	(void)output_len;
	lb_child_destroy(s->child);
	s->child = NULL;
	step(s, &in);
}

static void end_child(struct shell *s)
{
	lb_child_destroy(s->child);
	s->child = NULL;
}

static void run_command(struct shell *s, const struct ui_order *o)
{
	const char *argv[UI_ARGS_MAX + 2] = {s->cfg->program};
	struct lb_child_cfg cfg = {
		.argv = argv, .on_output = on_output, .on_exit = on_ended, .arg = s};
	struct lb_err err = {0};

	for (size_t i = 0; i < UI_ARGS_MAX && o->argv[i] != NULL; i++)
		argv[i + 1] = o->argv[i];
	end_child(s);
	if (lb_child_spawn(&s->child, s->loop, &cfg, &err) != 0) {
		struct ui_input in = {.kind = UI_IN_EXIT, .rc = -1, .message = err.msg};

		step(s, &in);
	}
}

/* ---- the editor ---- */

static void on_keys(uv_poll_t *h, int status, int events);

static void on_editor_closed(uv_handle_t *h)
{
	free(h);
}

static void editor_over(struct shell *s, int rc)
{
	struct ui_input in = {.kind = UI_IN_EDITED, .rc = rc};

	s->editor = NULL;
	ui_screen_resume();
	wait_for_room(s, ui_screen_flush());
	(void)uv_poll_start(s->keys, UV_READABLE | UV_DISCONNECT, on_keys);
	step(s, &in);
}

static void on_editor_exit(uv_process_t *p, int64_t exit_status, int term_signal)
{
	struct shell *s = p->data;

	uv_close((uv_handle_t *)p, on_editor_closed);
	editor_over(s, term_signal != 0 ? 128 + term_signal : (int)exit_status);
}

/* The words of $VISUAL or $EDITOR, and the file. No shell: nothing in the name is special. */
static void editor_argv(char *words, char **argv, char *path)
{
	char *save = NULL;
	size_t n = 0;

	for (char *w = strtok_r(words, " \t", &save); w != NULL && n < EDIT_WORDS;
	     w = strtok_r(NULL, " \t", &save))
		argv[n++] = w;
	argv[n++] = path;
	argv[n] = NULL;
}

static void edit(struct shell *s, const struct ui_order *o)
{
	const char *name = getenv("VISUAL");
	char words[256], path[sizeof(o->path)], *argv[EDIT_WORDS + 2];
	uv_stdio_container_t stdio[3];
	uv_process_options_t opt = {.exit_cb = on_editor_exit, .stdio_count = 3, .stdio = stdio};
	int rc;

	if (name == NULL || name[0] == '\0')
		name = getenv("EDITOR");
	(void)snprintf(words, sizeof(words), "%s", name != NULL && name[0] != '\0' ? name : "vi");
	(void)snprintf(path, sizeof(path), "%s", o->path);
	editor_argv(words, argv, path);
	for (int i = 0; i < 3; i++) {
		stdio[i].flags = UV_INHERIT_FD;
		stdio[i].data.fd = i;
	}
	opt.file = argv[0];
	opt.args = argv;
	s->editor = calloc(1, sizeof(*s->editor));
	LB_ASSERT(s->editor != NULL);
	s->editor->data = s;
	(void)uv_poll_stop(s->keys);
	ui_screen_suspend();
	rc = uv_spawn(lb_loop_uv(s->loop), s->editor, &opt);
	if (rc != 0) {
		uv_close((uv_handle_t *)s->editor, on_editor_closed);
		editor_over(s, -rc);
	}
}

/* ---- orders ---- */

static void carry_out(struct shell *s, struct ui_order *o)
{
	switch (o->kind) {
	case UI_DO_ASK:
		ui_link_ask(s->link[o->acts ? ACT : LOOK], o->id, o->method, o->path, o->body);
		o->body = NULL; /* taken */
		break;
	case UI_DO_RUN:
		run_command(s, o);
		break;
	case UI_DO_KILL:
		end_child(s);
		break;
	case UI_DO_EDIT:
		edit(s, o);
		break;
	case UI_DO_REPAINT:
		ui_screen_repaint();
		break;
	case UI_DO_QUIT:
		lb_loop_stop(s->loop);
		break;
	}
}

static bool is_later(const struct ui_order *o)
{
	return o->kind == UI_DO_RUN || o->kind == UI_DO_EDIT;
}

static void step(struct shell *s, struct ui_input *in)
{
	struct ui_order last = {.kind = UI_DO_REPAINT};
	struct ui_orders out;
	bool have_last = false;

	in->now_ns = s->env->now_ns(s->env);
	in->wall_ns = s->env->wall_ns(s->env);
	ui_app_step(s->app, in, &out);
	/* What can fail at once steps the machine again, which drops these orders: such an order is
	 * the last one, and is moved out of the list with what it owns. */
	for (size_t i = 0; i < out.count; i++) {
		if (is_later(&out.item[i]) && !have_last) {
			last = out.item[i];
			memset(out.item[i].argv, 0, sizeof(out.item[i].argv));
			have_last = true;
		} else {
			carry_out(s, &out.item[i]);
		}
	}
	if (have_last)
		carry_out(s, &last);
	for (size_t k = 0; k < UI_ARGS_MAX && last.argv[k] != NULL; k++)
		free(last.argv[k]);
	draw_soon(s);
}

static void on_answer(void *arg, uint64_t id, int rc, const struct json_t *body,
		      const char *message, const char *hint)
{
	struct ui_input in = {.kind = UI_IN_ANSWER,
			      .id = id,
			      .rc = rc,
			      .body = body,
			      .message = message,
			      .hint = hint};

	step(arg, &in);
}

/* ---- keys, size, time, signals ---- */

static void resize(struct shell *s)
{
	struct ui_input in = {.kind = UI_IN_SIZE};

	ui_screen_size(&in.w, &in.h);
	if (in.w != s->grid.w || in.h != s->grid.h) {
		ui_grid_fini(&s->grid);
		ui_grid_init(&s->grid, in.w, in.h);
	}
	step(s, &in);
}

/* Readable, but nothing to read: the terminal is gone. */
static bool hung_up(void)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	int waiting = 0;

	return poll(&p, 1, 0) == 1 &&
	       ((p.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0 ||
		(ioctl(STDIN_FILENO, FIONREAD, &waiting) == 0 && waiting == 0));
}

/* What was read may have been the terminal's, not a person's. */
static void look_at_answers(struct shell *s)
{
	if (ui_screen_wide() && !s->ascii) {
		s->ascii = true;
		ui_app_set_ascii(s->app);
		ui_screen_repaint();
		draw_soon(s);
	} else if (s->stale) {
		draw_soon(s);
	}
}

static void on_keys(uv_poll_t *h, int status, int events)
{
	struct shell *s = h->data;
	struct ui_input in = {.kind = UI_IN_KEY};
	unsigned n = 0;

	(void)events;
	while (s->editor == NULL && ui_screen_key(&in.key)) {
		n++;
		if (in.key == UI_K_CTRL('l'))
			resize(s); /* a change of size may have been lost on the way */
		if (in.key != 0)
			step(s, &in);
	}
	look_at_answers(s);
	if (s->editor == NULL && (status != 0 || (n == 0 && hung_up())))
		hang_up(s);
}

static void on_tick(void *arg)
{
	struct ui_input in = {.kind = UI_IN_TICK};

	step(arg, &in);
}

static void stop_for_now(struct shell *s)
{
	if (s->editor == NULL)
		ui_screen_suspend();
	(void)raise(SIGSTOP);
	if (s->editor == NULL) {
		ui_screen_resume();
		wait_for_room(s, ui_screen_flush());
		resize(s);
	}
}

static void on_signal(void *arg)
{
	const struct caught *c = arg;
	struct shell *s = c->shell;

	if (c->signo == SIGWINCH) {
		if (s->editor == NULL)
			resize(s);
	} else if (c->signo == SIGTSTP) {
		stop_for_now(s);
	} else if (c->signo != SIGINT || s->editor == NULL) {
		s->status = 128 + c->signo;
		lb_loop_stop(s->loop);
	}
}

static int catch_signals(struct shell *s, struct lb_err *err)
{
	static const int signals[] = {SIGWINCH, SIGTSTP, SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	int rc = 0;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]) && rc == 0; i++) {
		s->caught[i] = (struct caught){.shell = s, .signo = signals[i]};
		rc = lb_loop_on_signal(s->loop, signals[i], on_signal, &s->caught[i], err);
	}
	return rc;
}

static int watch(struct shell *s, uv_poll_t **out, int fd, struct lb_err *err)
{
	uv_poll_t *h = calloc(1, sizeof(*h));

	LB_ASSERT(h != NULL);
	if (uv_poll_init(lb_loop_uv(s->loop), h, fd) != 0) {
		free(h);
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "this terminal cannot be watched");
	}
	h->data = s;
	*out = h;
	return 0;
}

static int watch_terminal(struct shell *s, struct lb_err *err)
{
	int rc = watch(s, &s->keys, ui_screen_in(), err);

	if (rc == 0)
		rc = watch(s, &s->out, ui_screen_out(), err);
	if (rc == 0)
		(void)uv_poll_start(s->keys, UV_READABLE | UV_DISCONNECT, on_keys);
	return rc;
}

static void on_closed(uv_handle_t *h)
{
	free(h);
}

/* ---- life ---- */

static int pick_theme(const struct ui_tui_cfg *cfg, enum ui_theme *out, struct lb_err *err)
{
	const char *no_color = getenv("NO_COLOR");

	*out = no_color != NULL && no_color[0] != '\0' ? UI_THEME_MONO : UI_THEME_DEFAULT;
	return cfg->theme != NULL ? ui_theme_parse(out, cfg->theme, err) : 0;
}

static int open_all(struct shell *s, struct lb_err *err)
{
	bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	struct ui_app_cfg app = {.socket = s->cfg->socket,
				 .ascii = s->cfg->ascii || !utf8,
				 .read_only = s->cfg->read_only};
	enum ui_theme theme = UI_THEME_DEFAULT;
	int rc = pick_theme(s->cfg, &theme, err);

	if (rc == 0)
		rc = lb_loop_create(&s->loop, err);
	if (rc == 0)
		rc = lb_timer_create(&s->tick, s->loop, on_tick, s, err);
	if (rc == 0)
		rc = ui_link_create(&s->link[LOOK], s->loop, s->cfg->socket, LOOK_NS, on_answer, s,
				    err);
	if (rc == 0)
		rc = ui_link_create(&s->link[ACT], s->loop, s->cfg->socket, ACT_NS, on_answer, s,
				    err);
	if (rc == 0) /* before curses takes those that nobody has */
		rc = catch_signals(s, err);
	if (rc == 0)
		rc = ui_screen_open(theme, utf8, err);
	if (rc != 0)
		return rc;
	s->open = true;
	s->app = ui_app_create(&app);
	return watch_terminal(s, err);
}

static void close_all(struct shell *s)
{
	s->open = false;
	if (s->keys != NULL) /* before what they watch is closed */
		uv_close((uv_handle_t *)s->keys, on_closed);
	if (s->out != NULL)
		uv_close((uv_handle_t *)s->out, on_closed);
	ui_screen_close(); /* first: whatever follows may take a second */
	for (unsigned i = 0; i < LINKS; i++)
		ui_link_destroy(s->link[i]);
	lb_child_destroy(s->child);
	if (s->editor != NULL) {
		(void)uv_process_kill(s->editor, SIGHUP);
		uv_close((uv_handle_t *)s->editor, on_editor_closed);
	}
	lb_timer_destroy(s->tick);
	lb_loop_destroy(s->loop);
	ui_app_destroy(s->app);
	ui_grid_fini(&s->grid);
}

int ui_tui_run(const struct ui_tui_cfg *cfg, int *status, struct lb_err *err)
{
	struct shell s = {.cfg = cfg, .env = lb_env_real()};
	int rc;

	ui_grid_init(&s.grid, 80, 24);
	rc = open_all(&s, err);
	if (rc == 0) {
		resize(&s);
		on_draw(&s); /* the first frame waits for nobody */
		lb_timer_start(s.tick, TICK_NS, TICK_NS);
		rc = lb_loop_run(s.loop, err);
	}
	close_all(&s);
	*status = s.status;
	return rc;
}
