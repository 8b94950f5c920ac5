/* What the UI shows is so, or is said to be old or unknown; and what is done is done to what was
 * shown, by whom saw it. */
#include <inttypes.h>
#include <jansson.h>
#include <locale.h>
#include <stdlib.h>

#include "check.h"
#include "tui_world.h"

#define S UINT64_C(1000000000)

static const char *agent;

static void start(struct tui_world *w)
{
	tw_init(w, agent, &(const struct ui_app_cfg){.socket = NULL}, 80, 24);
	tw_pass(w, 2 * S);
}

static void shows(struct tui_world *w, const char *text)
{
	if (!tw_shows(w, text)) {
		ui_grid_print(&w->grid, stderr);
		fail_msg("not on the screen: %s", text);
	}
}

static void shows_not(struct tui_world *w, const char *text)
{
	if (tw_shows(w, text)) {
		ui_grid_print(&w->grid, stderr);
		fail_msg("on the screen: %s", text);
	}
}

static void keys(struct tui_world *w, const char *text)
{
	for (; *text != '\0'; text++) {
		tw_key(w, *text == '\n'  ? (uint32_t)UI_K_ENTER
			  : *text == '>' ? (uint32_t)UI_K_DOWN
			  : *text == '!' ? (uint32_t)UI_K_ESC
					 : (uint32_t)*text);
		tw_pass(w, S / 4);
	}
}

/* A file of the agent, to be changed. */
static json_t *answer_of(const char *name)
{
	char path[600];
	json_t *o;

	(void)snprintf(path, sizeof(path), "%s/%s.json", agent, name);
	o = json_load_file(path, 0, NULL);
	assert_non_null(o);
	return o;
}

/* From now on @path is answered with @body; NULL: LB_ENOTFOUND. */
static void answers(struct tui_world *w, const char *path, const json_t *body)
{
	w->override_path = path;
	w->override_body = body;
}

/* ---- a site without a name ---- */

/* Where the name that must be typed is not known, nothing asks for it, and nothing leaves. */
static void test_no_site_name(void **state)
{
	json_t *status = answer_of("status");
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "6\n");
	(void)json_object_set_new(status, "site", json_string(""));
	answers(&w, "/v1/status", status);
	tw_pass(&w, 2 * S);
	keys(&w, "X\n!>>s\n!sby hand\n\n\n");
	assert_int_equal(w.acts, 0);
	json_decref(status);
	tw_fini(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_site_name),
	};

	if (argc < 2)
		return 2;
	agent = argv[1];
	(void)setenv("TZ", "UTC", 1);
	(void)setlocale(LC_ALL, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
