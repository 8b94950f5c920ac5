/*
 * Every view, window and dialog in several sizes, characters and languages: its text against
 * screens/NAME.SHAPE.txt, and how colour and NO_COLOR show it, all of a shape in one file,
 * against looks/SHAPE.txt. LB_GOLDEN_UPDATE=1 in the environment writes them anew;
 * look at what changed.
 */
#include <libintl.h>
#include <locale.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "check.h"
#include "text_int.h"
#include "theme_int.h"
#include "tui_world.h"

static char dir[512], agent[600];

/* What is typed to get there; '\n' is Enter, '\t' is Down. */
static const struct {
	const char *name, *keys;
} scenes[] = {
	{"overview", "1"},
	{"sites", "2"},
	{"machines", "3"},
	{"points", "4"},
	{"runbooks", "5\t"},
	{"runs", "6"},
	{"run", "6\n\t"},
	{"drills", "7"},
	{"events", "8"},
	{"console", "9"},
	{"help", "1?"},
	{"help-search", "5\t?fail"},
	{"filter", "4/veri"},
	{"command", "1:point sh"},
	{"verify", "4v"},
	{"drill", "5\tD"},
	{"skip", "6\n\t\tsdone by hand\n"},
	{"failover-1", "5\tF"},
	{"failover-2", "5\tF\n"},
	{"failover-3", "5\tF\n\n"},
	{"failover-4", "5\tF\n\n\ntok"},
};

struct shape {
	const char *suffix, *locale;
	int w, h;
	bool ascii;
};

static const struct shape shapes[] = {
	{"", "C.UTF-8", 80, 24, false},
	{".60x15", "C.UTF-8", 60, 15, false},
	{".200x50", "C.UTF-8", 200, 50, false},
	{".ascii", "C", 80, 24, true},
	{".ascii.60x15", "C", 60, 15, true},
	{".ascii.200x50", "C", 200, 50, true},
	{".ja", "ja_JP.UTF-8", 80, 24, false},
	{".ja.60x15", "ja_JP.UTF-8", 60, 15, false},
	{".ja.200x50", "ja_JP.UTF-8", 200, 50, false},
	/* as in terminals that draw frames two columns wide */
	{".ja.ascii", "ja_JP.UTF-8", 80, 24, true},
	{".ja.ascii.60x15", "ja_JP.UTF-8", 60, 15, true},
	{".ja.ascii.200x50", "ja_JP.UTF-8", 200, 50, true},
};

static void go(struct tui_world *w, const char *keys)
{
	tw_pass(w, UINT64_C(3000000000));
	for (; *keys != '\0'; keys++) {
		tw_key(w, *keys == '\n'   ? (uint32_t)UI_K_ENTER
			  : *keys == '\t' ? (uint32_t)UI_K_DOWN
					  : (uint32_t)*keys);
		if (*keys != 'v' && *keys != '\t')
			tw_pass(w, UINT64_C(250000000));
	}
	tw_pass(w, UINT64_C(3000000000));
}

static char *read_all(const char *path)
{
	FILE *f = fopen(path, "rb");
	char *p = calloc(1, 1u << 18);

	assert_non_null(p);
	if (f != NULL) {
		size_t n = fread(p, 1, (1u << 18) - 1, f);

		p[n] = '\0';
		(void)fclose(f);
	}
	return p;
}

static void write_all(const char *path, const char *text)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	(void)fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

/* @name: below the directory of the golden files, without ".txt". */
static void compare(const char *name, const char *text)
{
	char path[700];
	char *want;

	(void)snprintf(path, sizeof(path), "%s/%s.txt", dir, name);
	if (getenv("LB_GOLDEN_UPDATE") != NULL) {
		write_all(path, text);
		return;
	}
	want = read_all(path);
	if (strcmp(want, text) != 0) {
		print_error("%s is not what it was; it was:\n%s\nit is:\n%s\n", name, want, text);
		fail();
	}
	free(want);
}

/* The text of scene @i, and its looks appended to @looks. */
static void show(const struct shape *s, size_t i, FILE *looks)
{
	const struct ui_app_cfg cfg = {.ascii = s->ascii};
	struct tui_world w;
	char name[128];
	char *text;

	tw_init(&w, agent, &cfg, s->w, s->h);
	go(&w, scenes[i].keys);
	text = tw_screen(&w);
	(void)fprintf(looks, "== %s, colour\n", scenes[i].name);
	tw_looks(&w, UI_THEME_DEFAULT, looks);
	(void)fprintf(looks, "== %s, NO_COLOR\n", scenes[i].name);
	tw_looks(&w, UI_THEME_MONO, looks);
	tw_fini(&w);
	(void)snprintf(name, sizeof(name), "screens/%s%s", scenes[i].name, s->suffix);
	compare(name, text);
	free(text);
}

static void test_shapes(void **state)
{
	(void)state;
	for (size_t k = 0; k < sizeof(shapes) / sizeof(shapes[0]); k++) {
		char name[64];
		char *text = NULL;
		size_t len = 0;
		FILE *looks = open_memstream(&text, &len);

		assert_non_null(looks);
		if (setlocale(LC_ALL, shapes[k].locale) == NULL)
			fail_msg("locale %s is not installed (./dev deps)", shapes[k].locale);
		for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
			show(&shapes[k], i, looks);
		assert_int_equal(fclose(looks), 0);
		(void)snprintf(name, sizeof(name), "looks/%dx%d.%s.%.2s", shapes[k].w, shapes[k].h,
			       shapes[k].ascii ? "ascii" : "utf8",
			       shapes[k].locale[0] == 'C' ? "en" : shapes[k].locale);
		compare(name, text);
		free(text);
	}
	(void)setlocale(LC_ALL, "C.UTF-8");
}

/* A catalogue that is not found would pass for English screens. */
static void test_is_japanese(void **state)
{
	char path[700];
	char *text;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/screens/overview.ja.txt", dir);
	text = read_all(path);
	assert_non_null(strstr(text, "保護"));
	free(text);
}

/* How each style looks in each theme: state is never told by colour alone. */
static void test_themes(void **state)
{
	char text[8192];
	size_t n = 0;

	(void)state;
	for (int t = 0; t < UI_THEMES; t++)
		for (int s = 0; s < UI_STYLES; s++) {
			struct ui_look l = ui_theme_look((enum ui_theme)t, (enum ui_style)s);

			n += (size_t)snprintf(text + n, sizeof(text) - n,
					      "%-13s %c fg %2d bg %2d%s%s%s%s\n",
					      ui_theme_name((enum ui_theme)t), 'a' + s, l.fg, l.bg,
					      l.bold ? " bold" : "", l.reverse ? " reverse" : "",
					      l.underline ? " underline" : "", l.dim ? " dim" : "");
			if (t == UI_THEME_MONO)
				assert_true(l.fg == -1 && l.bg == -1);
		}
	compare("looks/themes", text);
}

/* Nothing beyond ASCII in ASCII frames; no control byte anywhere. */
static void ascii_only(const char *path)
{
	char *text = read_all(path);

	assert_true(text[0] != '\0');
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p >= 0x7f || (*p < ' ' && *p != '\n'))
			fail_msg("%s has byte %02x", path, (unsigned)(unsigned char)*p);
	free(text);
}

/* Japanese needs characters beyond ASCII; in ASCII frames none is of a width that can be doubted.
 */
static void no_doubt(const char *path)
{
	char *text = read_all(path);
	uint32_t cp;
	size_t n;

	assert_true(text[0] != '\0');
	for (const char *p = text; *p != '\0'; p += n) {
		n = lb_utf8_next(p, &cp);
		assert_true(n > 0);
		if (ui_char_ambiguous(cp))
			fail_msg("%s has U+%04x", path, cp);
	}
	free(text);
}

static void test_bytes(void **state)
{
	static const char *const sizes[] = {"", ".60x15", ".200x50"};
	char path[700];

	(void)state;
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
		for (size_t k = 0; k < 3; k++) {
			(void)snprintf(path, sizeof(path), "%s/screens/%s.ascii%s.txt", dir,
				       scenes[i].name, sizes[k]);
			ascii_only(path);
			(void)snprintf(path, sizeof(path), "%s/screens/%s.ja.ascii%s.txt", dir,
				       scenes[i].name, sizes[k]);
			no_doubt(path);
		}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_themes),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_is_japanese),
	};

	if (argc < 3)
		return 2;
	(void)snprintf(dir, sizeof(dir), "%s", argv[1]);
	(void)snprintf(agent, sizeof(agent), "%s/agent", dir);
	(void)setenv("TZ", "UTC", 1);
	(void)unsetenv("LANGUAGE");
	(void)setlocale(LC_ALL, "C.UTF-8");
	(void)bindtextdomain("lifeboat", argv[2]);
	(void)bind_textdomain_codeset("lifeboat", "UTF-8");
	(void)textdomain("lifeboat");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
