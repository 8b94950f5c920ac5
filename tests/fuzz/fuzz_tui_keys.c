/*
 * Any keys, sizes, output of commands: no crash, and no dangerous request without its typed name.
 * Input bytes: 0x00 to 0x7f a key, 0x80 to 0x8f special keys, 0x90 time, 0x91 size (two bytes
 * follow), 0x92 output of a command (a length follows), 0x93 its end, 0x94 the agent is away or
 * back.
 */
#include <jansson.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tui_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct tui_world *w)
{
	const char *path, *body;

	if (w->acts == 0)
		return;
	path = w->act[(w->acts - 1) % TW_ACTS].path;
	body = w->act[(w->acts - 1) % TW_ACTS].body;
	if (strcmp(path, "/v1/runs") == 0 && strstr(body, "\"mode\":\"drill\"") == NULL &&
	    strstr(body, "\"confirm\":\"tokyo\"") == NULL)
		abort();
	if ((strstr(body, "\"skip\"") != NULL || strstr(body, "\"cancel\"") != NULL) &&
	    strstr(body, "\"confirm\":\"osaka\"") == NULL)
		abort();
}

static size_t special(struct tui_world *w, const uint8_t *p, size_t left)
{
	struct ui_input in = {.kind = UI_IN_OUTPUT};
	size_t len = left > 1 ? p[1] : 0;

	switch (p[0]) {
	case 0x90:
		tw_pass(w, UINT64_C(1000000000));
		return 1;
	case 0x91:
		if (left > 2)
			tw_size(w, p[1], p[2] % 64);
		return 3;
	case 0x92:
		len = len < left - 1 ? len : left - 2;
		in.text = (const char *)p + 2;
		in.len = left > 2 ? len : 0;
		tw_input(w, &in);
		return 2 + len;
	case 0x93:
		in.kind = UI_IN_EXIT;
		tw_input(w, &in);
		return 1;
	case 0x94:
		w->away = !w->away;
		return 1;
	default:
		tw_key(w, (uint32_t)(p[0] < 0x90 ? UI_K_UP + (p[0] & 0xfu) : p[0] * 97u));
		return 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tui_world w;

	(void)setlocale(LC_CTYPE, "C.UTF-8");
	tw_init(&w, LB_TUI_AGENT, &(const struct ui_app_cfg){.ascii = true}, 80, 24);
	tw_pass(&w, UINT64_C(1000000000));
	size = size > 600 ? 600 : size;
	for (size_t i = 0; i < size;) {
		if (data[i] < 0x80) {
			tw_key(&w, data[i]);
			i++;
		} else {
			i += special(&w, data + i, size - i);
		}
		check(&w);
		ui_app_draw(w.app, &w.grid);
	}
	tw_fini(&w);
	return 0;
}
