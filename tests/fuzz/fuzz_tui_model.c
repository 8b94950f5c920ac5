/*
 * A hostile agent: any bytes as the answer to every question, then every view is drawn. Input: a
 * line that says which path is answered so (a digit), then JSON.
 */
#include <jansson.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ui-tui/app.h"
#include "ui-tui/grid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct drive {
	struct ui_app *app;
	struct ui_grid grid;
	const json_t *body;
	uint64_t now_ns;
	unsigned which;
};

/* Everything that is asked gets the same answer: each part parses what was meant for another, too.
 */
static void answer(struct drive *d, const struct ui_orders *out)
{
	uint64_t id[64];
	size_t n = 0;

	for (size_t i = 0; i < out->count && n < 64; i++)
		if (out->item[i].kind == UI_DO_ASK)
			id[n++] = out->item[i].id;
	for (size_t i = 0; i < n; i++) {
		struct ui_input in = {.kind = UI_IN_ANSWER,
				      .id = id[i],
				      .body = d->body,
				      .rc = (d->which + i) % 7 == 6 ? -5 : 0,
				      .message = "x",
				      .hint = "y",
				      .now_ns = d->now_ns,
				      .wall_ns = d->now_ns};
		struct ui_orders more;

		ui_app_step(d->app, &in, &more);
	}
}

static void key(struct drive *d, uint32_t k)
{
	struct ui_input in = {.kind = UI_IN_KEY, .key = k};
	struct ui_orders out;

	d->now_ns += UINT64_C(4000000000);
	in.now_ns = in.wall_ns = d->now_ns;
	ui_app_step(d->app, &in, &out);
	answer(d, &out);
	ui_app_draw(d->app, &d->grid);
}

/* What is on the screen is clean (U4). */
static void check(const struct ui_grid *g)
{
	for (int y = 0; y < g->h; y++)
		for (int x = 0; x < g->w; x++)
			for (const char *p = ui_grid_at(g, y, x)->text; *p != '\0'; p++)
				if ((unsigned char)*p < 0x20 || *p == 0x7f)
					abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char walk[] = "1234567\n\n>\n89?\033:p\t\033";
	struct drive d = {.now_ns = UINT64_C(1000000000000)};
	const struct ui_app_cfg cfg = {.ascii = false};

	if (size < 2)
		return 0;
	(void)setlocale(LC_CTYPE, "C.UTF-8");
	d.which = data[0];
	d.body = json_loadb((const char *)data + 1, size - 1, 0, NULL);
	d.app = ui_app_create(&cfg);
	ui_grid_init(&d.grid, 80, 24);
	for (const char *k = walk; *k != '\0'; k++) {
		key(&d, *k == '\n'  ? (uint32_t)UI_K_ENTER
			: *k == '>' ? (uint32_t)UI_K_DOWN
				    : (uint32_t)*k);
		check(&d.grid);
	}
	ui_grid_fini(&d.grid);
	ui_app_destroy(d.app);
	json_decref((json_t *)(uintptr_t)d.body);
	return 0;
}
