/* Foreign text on the way to a cell: nothing a terminal acts on, the right columns, never outside.
 */
#include <locale.h>
#include <stdlib.h>

#include "check.h"
#include "text_int.h"
#include "ui-tui/grid.h"

static void cleaned(const char *raw, const char *want)
{
	char out[64];

	(void)ui_clean(out, sizeof(out), raw);
	assert_string_equal(out, want);
}

static void test_clean(void **state)
{
	(void)state;
	cleaned("erp-db", "erp-db");
	cleaned("受注サーバー", "受注サーバー");
	cleaned("a\033[31mb", "a\\x1b[31mb");
	cleaned("a\nb\rc\td", "a\\x0ab\\x0dc\\x09d");
	cleaned("a\xc2\x9b"
		"31mb",
		"a\\u009b31mb"); /* CSI as one C1 byte */
	cleaned("a\xe2\x80\xae"
		"b",
		"a\\u202eb"); /* right-to-left override */
	cleaned("a\xe2\x80\x8f"
		"b",
		"a\\u200fb");
	cleaned("a\xe2\x80\x8b"
		"b",
		"a\\u200bb");                                               /* nothing to see */
	cleaned("a\xf3\xa0\x81\x81", "a\\ue0041");                          /* tags */
	cleaned("\xf0\x9f\x91\xa9\xe2\x80\x8d", "\xf0\x9f\x91\xa9\\u200d"); /* joiner */
	cleaned("\xf0\x9f\x96\xa5\xef\xb8\x8f", "\xf0\x9f\x96\xa5\\ufe0f"); /* selector */
	cleaned("\xe3\x85\xa4", "\\u3164");                                 /* filler: a blank */
	cleaned("\xff\xfe", "\\xff\\xfe");
	cleaned("\xc0\xaf", "\\xc0\\xaf");          /* overlong */
	cleaned("\xed\xa0\x80", "\\xed\\xa0\\x80"); /* a surrogate */
}

static void test_name_exact(void **state)
{
	struct ui_name n;
	char longer[5000];

	(void)state;
	ui_name_set(&n, "erp");
	assert_true(n.exact);
	ui_name_set(&n, "er\033p");
	assert_false(n.exact);
	ui_name_set(&n, NULL);
	assert_string_equal(n.show, "");
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	ui_name_set(&n, longer);
	assert_false(n.exact);
	assert_true(strlen(n.show) < UI_NAME_BYTES);
	assert_string_equal(n.show + strlen(n.show) - 3, "...");
}

/* A cut never leaves half a character. */
static void test_cut(void **state)
{
	char raw[400], out[40];

	(void)state;
	for (size_t lead = 0; lead < 8; lead++) {
		memset(raw, 'a', lead);
		raw[lead] = '\0';
		for (int i = 0; i < 30; i++)
			(void)strcat(raw, "語");
		for (size_t cap = 8; cap <= sizeof(out); cap++) {
			assert_false(ui_clean(out, cap, raw));
			assert_true(strlen(out) < cap);
			if (strlen(out) >= lead + 3)
				assert_int_equal((strlen(out) - 3 - lead) % 3, 0);
		}
	}
}

static void console(const char *raw, const char *want)
{
	char out[UI_LINE_BYTES];

	ui_clean_console(out, sizeof(out), raw, strlen(raw));
	assert_string_equal(out, want);
}

static void test_console(void **state)
{
	(void)state;
	console("plain\r", "plain");
	console("\033[1;32mgreen\033[0m x", "green x");
	console("old\rnew", "new");
	console("abc\b\bX", "aX");
	console("\033]0;title\aprompt", "prompt");
	console("\033]0;title\033\\prompt", "prompt");
	console("\033(B\033[?25hok", "ok");
	console("cut \033[12", "cut ");
	console("cut \033", "cut ");
	console("語\bA", "A");
	console("\b\b\bA", "A");
	console("a\tb", "a b");
	console("bell\a", "bell\\x07");
}

static void test_columns(void **state)
{
	(void)state;
	assert_int_equal(ui_columns("abc"), 3);
	assert_int_equal(ui_columns("受注"), 4);
	assert_int_equal(ui_columns("e\xcc\x81"), 1); /* combining acute */
	assert_true(ui_char_ambiguous(0x2500) && ui_char_ambiguous(0x2460) &&
		    ui_char_ambiguous(0x0441));
	assert_false(ui_char_ambiguous('a') || ui_char_ambiguous(0x8a9e) ||
		     ui_char_ambiguous(0x05e9) || ui_char_ambiguous(0x3042));
	assert_int_equal(ui_char_columns(0x1b), -1);
	assert_int_equal(ui_char_columns(0x9b), -1);
	assert_true(ui_contains("tokyo-to-OSAKA", "osaka"));
	assert_false(ui_contains("tokyo", "osaka"));
	assert_true(ui_contains("", ""));
}

/* ---- cells ---- */

static char *printed(const struct ui_grid *g)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	ui_grid_print(g, f);
	(void)fclose(f);
	return text;
}

static void shows(const struct ui_grid *g, const char *want)
{
	char *text = printed(g);

	assert_string_equal(text, want);
	free(text);
}

static void test_put(void **state)
{
	struct ui_grid g;

	(void)state;
	ui_grid_init(&g, 10, 2);
	assert_int_equal(ui_put(&g, 0, 0, 10, UI_TEXT, "0123456789"), 10);
	assert_int_equal(ui_put(&g, 1, 4, 99, UI_TEXT, "0123456789"), 6);
	shows(&g, "0123456789\n    01234…\n");
	g.ascii = true;
	(void)ui_put(&g, 1, 0, 4, UI_TEXT, "abcdef");
	shows(&g, "0123456789\nabc~01234…\n");
	assert_int_equal(ui_put(&g, 2, 0, 5, UI_TEXT, "x"), 0);
	assert_int_equal(ui_put(&g, -1, 0, 5, UI_TEXT, "x"), 0);
	assert_int_equal(ui_put(&g, 0, 10, 5, UI_TEXT, "x"), 0);
	assert_int_equal(ui_put(&g, 0, -1, 5, UI_TEXT, "x"), 0);
	ui_grid_fini(&g);
}

/* A wide character is never halved: not at an edge, not by what is drawn over it. */
static void test_wide(void **state)
{
	struct ui_grid g;

	(void)state;
	ui_grid_init(&g, 5, 1);
	(void)ui_put(&g, 0, 0, 5, UI_TEXT, "語語語");
	shows(&g, "語語…\n");
	(void)ui_put(&g, 0, 1, 1, UI_TEXT, "x");
	shows(&g, " x語…\n");
	(void)ui_put(&g, 0, 2, 1, UI_TEXT, "y");
	shows(&g, " xy …\n");
	(void)ui_put(&g, 0, 3, 2, UI_TEXT, "語");
	ui_fill(&g, (struct ui_area){0, 4, 1, 1}, UI_TEXT);
	shows(&g, " xy\n");
	ui_grid_fini(&g);
}

static void test_marks(void **state)
{
	struct ui_grid g;
	char text[100] = "e";

	(void)state;
	for (int i = 0; i < 20; i++)
		(void)strcat(text, "\xcc\x81");
	(void)strcat(text, "z");
	ui_grid_init(&g, 4, 1);
	assert_int_equal(ui_put(&g, 0, 0, 4, UI_TEXT, text), 2);
	assert_true(strlen(ui_grid_at(&g, 0, 0)->text) < UI_CELL_BYTES);
	assert_string_equal(ui_grid_at(&g, 0, 1)->text, "z");
	assert_int_equal(ui_put(&g, 0, 0, 4, UI_TEXT, "\xcc\x81"), 0); /* nothing to join */
	ui_grid_fini(&g);
}

static void test_wrap(void **state)
{
	struct ui_grid g;

	(void)state;
	ui_grid_init(&g, 8, 3);
	assert_int_equal(ui_wrap(&g, ui_grid_area(&g), UI_TEXT, "one two three four"), 3);
	shows(&g, "one two\nthree\nfour\n");
	ui_grid_clear(&g);
	assert_int_equal(ui_wrap(&g, ui_grid_area(&g), UI_TEXT, "日本語日本語日本"), 2);
	shows(&g, "日本語日\n本語日本\n\n");
	assert_int_equal(ui_wrap(NULL, (struct ui_area){0, 0, 9, 1}, UI_TEXT, "語語"), 2);
	assert_int_equal(ui_wrap(NULL, (struct ui_area){0, 0, 9, 5}, UI_TEXT, ""), 0);
	ui_grid_fini(&g);
}

static void test_any_size(void **state)
{
	(void)state;
	for (int h = -1; h < 6; h++)
		for (int w = -1; w < 12; w++) {
			const uint64_t v[] = {0, 1, UINT64_MAX};
			struct ui_grid g;

			ui_grid_init(&g, w, h);
			(void)ui_box(&g, ui_grid_area(&g), "タイトル");
			ui_spark(&g, 0, 0, w, UI_OK, v, 3);
			ui_bar(&g, 0, 0, w, UI_OK, UINT64_MAX, 1);
			ui_rule(&g, h, w, 99, "x");
			ui_restyle(&g, (struct ui_area){-5, -5, 99, 99}, UI_SELECT);
			ui_fill(&g, (struct ui_area){-5, -5, 99, 99}, UI_TEXT);
			ui_grid_fini(&g);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),   cmocka_unit_test(test_name_exact),
		cmocka_unit_test(test_cut),     cmocka_unit_test(test_console),
		cmocka_unit_test(test_columns), cmocka_unit_test(test_put),
		cmocka_unit_test(test_wide),    cmocka_unit_test(test_marks),
		cmocka_unit_test(test_wrap),    cmocka_unit_test(test_any_size),
	};

	(void)setlocale(LC_ALL, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
