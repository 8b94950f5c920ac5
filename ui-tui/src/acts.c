/* Orders, and the requests that change something (U1, U2, U3 of app.h). */
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "app_int.h"
#include "base/assert.h"
#include "siteagent/ctl.h"

struct ui_order *ui_order(struct ui_app *a, enum ui_order_kind kind)
{
	struct ui_order *o;

	if (a->orders.count == a->orders_cap) {
		a->orders_cap = a->orders_cap == 0 ? 16 : 2 * a->orders_cap;
		o = realloc(a->orders.item, a->orders_cap * sizeof(*o));
		LB_ASSERT(o != NULL);
		a->orders.item = o;
	}
	o = &a->orders.item[a->orders.count++];
	memset(o, 0, sizeof(*o));
	o->kind = kind;
	return o;
}

void ui_say(struct ui_app *a, enum ui_style style, const char *fmt, ...)
{
	char raw[sizeof(a->message)];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	(void)ui_clean(a->message, sizeof(a->message), raw); /* may quote an answer */
	a->message_style = style;
	a->message_ns = a->now_ns;
}

/* ---- command lines ---- */

const char *ui_quote(char *out, size_t out_bytes, const char *text)
{
	size_t n = 0;

	if (text[0] != '\0' && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					    "0123456789._/:@%+,=-") == strlen(text)) {
		(void)snprintf(out, out_bytes, "%s", text);
		return out;
	}
	out[n++] = '\'';
	for (; *text != '\0' && n + 6 < out_bytes; text++) {
		if (*text == '\'') {
			memcpy(out + n, "'\\''", 4);
			n += 4;
		} else {
			out[n++] = *text;
		}
	}
	out[n++] = '\'';
	out[n] = '\0';
	return out;
}

void ui_equal(const struct ui_app *a, char *out, size_t out_bytes, const char *fmt, ...)
{
	char socket[2 * UI_NAME_BYTES + 8];
	int n = snprintf(out, out_bytes, "lifeboat ");
	va_list ap;

	if (a->cfg.socket != NULL && strcmp(a->cfg.socket, SA_CTL_DEFAULT_SOCKET) != 0)
		n += snprintf(out + n, out_bytes - (size_t)n, "--socket %s ",
			      ui_quote(socket, sizeof(socket), a->cfg.socket));
	if (n < 0 || (size_t)n >= out_bytes)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(out + n, out_bytes - (size_t)n, fmt, ap);
	va_end(ap);
}

/* ---- sending ---- */

void ui_act_fini(struct ui_act *act)
{
	json_decref(act->body);
	memset(act, 0, sizeof(*act));
}

static struct ui_pending *free_slot(struct ui_app *a)
{
	for (size_t i = 0; i < UI_ACTS_MAX; i++)
		if (a->pending[i].id == 0)
			return &a->pending[i];
	return NULL;
}

static void note(struct ui_app *a, const struct ui_act *act, uint64_t id)
{
	struct ui_log_entry *e;

	if (a->log_count == UI_LOG_MAX) {
		memmove(a->log, a->log + 1, (UI_LOG_MAX - 1) * sizeof(a->log[0]));
		a->log_count--;
	}
	e = &a->log[a->log_count++];
	memset(e, 0, sizeof(*e));
	(void)snprintf(e->equal, sizeof(e->equal), "%s", act->equal);
	e->id = id;
	e->wall_ns = a->wall_ns;
}

void ui_act_send(struct ui_app *a, struct ui_act *act)
{
	struct ui_pending *p = free_slot(a);
	struct ui_order *o;

	if (ui_read_only(a)) { /* since the dialog was opened; deeds have refused before */
		ui_say(a, UI_WARN, _("read-only: \"%s\" is switched off"), act->what);
		ui_act_fini(act);
		return;
	}
	if (p == NULL) {
		ui_say(a, UI_WARN, "%s", _("earlier requests are not answered yet; wait for them"));
		ui_act_fini(act);
		return;
	}
	o = ui_order(a, UI_DO_ASK);
	o->id = a->next_id++;
	o->acts = true;
	o->method = "POST";
	(void)snprintf(o->path, sizeof(o->path), "%s", act->path);
	o->body = act->body;
	act->body = NULL;
	p->id = o->id;
	p->then = act->then;
	(void)snprintf(p->what, sizeof(p->what), "%s", act->what);
	note(a, act, o->id);
	ui_say(a, UI_TEXT, "$ %s", act->equal);
	ui_act_fini(act);
}
