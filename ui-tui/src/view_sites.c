/* Sites, and below them what the links carry: rate over time, lag, backlog, ETA. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "views_int.h"

static size_t rows(const struct ui_app *a)
{
	return a->model.sites;
}

static void cell(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out)
{
	const struct ui_site *s = &a->model.site_list[row];
	const char *link;

	switch (col) {
	case 0:
		(void)snprintf(out->text, sizeof(out->text), "%s", s->name.show);
		break;
	case 1:
		(void)snprintf(out->text, sizeof(out->text), "%s",
			       s->self ? _("(this site)") : s->address);
		break;
	case 2:
		link = s->link[0] != '\0' ? s->link : s->inbound;
		out->style = ui_state_style(link);
		if (link[0] != '\0')
			(void)snprintf(out->text, sizeof(out->text), "%s %s",
				       ui_mark(a, out->style), link);
		break;
	case 3:
		(void)snprintf(out->text, sizeof(out->text), "%.12s", s->id);
		out->style = UI_DIM;
		break;
	default:
		if (s->problem[0] != '\0')
			(void)snprintf(out->text, sizeof(out->text), "%s", s->problem);
		else if (s->self && !s->enrolled)
			(void)snprintf(out->text, sizeof(out->text), "%s", _("not enrolled"));
		else if (s->cert_left_s.known)
			(void)snprintf(out->text, sizeof(out->text),
				       _("certificate: %" PRIu64 " days left"),
				       s->cert_left_s.n / 86400);
		out->style = s->problem[0] != '\0' ? UI_BAD : UI_DIM;
	}
}

static const char *key_of(const struct ui_app *a, size_t row)
{
	return a->model.site_list[row].name.show;
}

static const struct ui_col cols[] = {{N_("SITE"), 0, false},
				     {N_("ADDRESS"), 2, false},
				     {N_("LINK"), 0, false},
				     {N_("ID"), 4, false},
				     {N_("NOTE"), 3, false}};
static const struct ui_table table = {.col = cols,
				      .cols = 5,
				      .rows = rows,
				      .cell = cell,
				      .key = key_of,
				      .part = UI_PART_SITES,
				      .empty = N_("no answer yet")};

const struct ui_table *ui_sites_table(const struct ui_app *a)
{
	(void)a;
	return &table;
}

/* ---- links ---- */

static const struct ui_samples *samples_of(const struct ui_model *m, const struct ui_group *g)
{
	for (size_t i = 0; i < m->samples; i++)
		if (strcmp(m->sample[i].group.show, g->name.show) == 0)
			return &m->sample[i];
	return NULL;
}

/* In fewer words where there is no room for all. */
static void numbers(const struct ui_app *a, const struct ui_group *x, int room, char *out,
		    size_t cap)
{
	char rate[LB_HUMAN_BYTES] = "-", lag[LB_HUMAN_BYTES], left[LB_HUMAN_BYTES] = "-",
	     eta[LB_HUMAN_BYTES] = "-";

	ui_age_text(lag, sizeof(lag), ui_rpo_now(a, UI_PART_STATUS, x->rpo_ns));
	if (x->rate_bytes_per_s.known)
		(void)lb_human_bytes(rate, x->rate_bytes_per_s.n);
	if (x->scan_all.known && x->scan_all.n >= x->scan_done.n)
		(void)lb_human_bytes(left, x->scan_all.n - x->scan_done.n);
	if (x->eta_s.known)
		(void)lb_human_duration(eta, x->eta_s.n * 1000000000u);
	(void)snprintf(out, cap, _("%s/s  lag %s  ETA %s  to read %s"), rate, lag, eta, left);
	if (ui_columns(out) > room)
		(void)snprintf(out, cap, _("%s/s  lag %s  left %s, %s"), rate, lag, left, eta);
}

static void draw_link(struct ui_app *a, struct ui_grid *g, struct ui_area area,
		      const struct ui_group *x)
{
	const struct ui_samples *s = samples_of(&a->model, x);
	char text[UI_LINE_BYTES], top[LB_HUMAN_BYTES], span[LB_HUMAN_BYTES];
	uint64_t max = 0;
	int w = area.w - 34 > 60 ? 60 : area.w - 34, used;

	used = ui_putf(g, area.y, area.x + 1, area.w - 1, UI_HEAD, "%s %s %s  ", x->name.show,
		       x->source ? (a->cfg.ascii ? "->" : "→") : (a->cfg.ascii ? "<-" : "←"),
		       x->peer);
	numbers(a, x, area.w - 1 - used, text, sizeof(text));
	(void)ui_put(g, area.y, area.x + 1 + used, area.w - 1 - used, UI_HEAD, text);
	if (w < 5)
		return;
	if (s == NULL || s->count == 0) {
		(void)ui_put(g, area.y + 1, area.x + 3, area.w - 3, UI_DIM,
			     _("no history of this group here"));
		return;
	}
	for (size_t i = 0; i < s->count; i++)
		max = s->rate[i] > max ? s->rate[i] : max;
	ui_spark(g, area.y + 1, area.x + 3, w, UI_OK, s->rate, s->count);
	(void)ui_putf(g, area.y + 1, area.x + w + 5, area.w - w - 5, UI_DIM, _("top %s/s in %s"),
		      lb_human_bytes(top, max),
		      lb_human_duration(span, s->count * a->model.sample_every_ns));
}

void ui_sites_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	int list_h = (int)m->sites + 1, y;
	size_t n;

	list_h = list_h > area.h / 2 ? area.h / 2 : list_h;
	list_h = list_h < 3 ? 3 : list_h;
	ui_list_draw(a, &a->list[UI_VIEW_SITES], &table, g,
		     (struct ui_area){area.y, area.x, list_h, area.w}, true);
	y = area.y + list_h;
	if (y < area.y + area.h)
		ui_rule(g, y++, area.x, area.w, _("Links"));
	n = (size_t)(area.y + area.h - y > 0 ? area.y + area.h - y : 0);
	n = m->groups * 2 <= n ? m->groups : (n > 0 ? n - 1 : 0) / 2;
	for (size_t i = 0; i < n; i++, y += 2)
		draw_link(a, g, (struct ui_area){y, area.x, 2, area.w}, &m->group[i]);
	ui_put_more(g, y, area, m->groups - n, _("view 1"));
	y += m->groups > n ? 1 : 0;
	if (m->has_store && y < area.y + area.h) {
		char size[LB_HUMAN_BYTES], got[LB_HUMAN_BYTES];

		(void)ui_putf(g, y, area.x + 1, area.w - 1, UI_TEXT,
			      _("store %s, received %s since start, %" PRIu64 " connections"),
			      lb_human_bytes(size, m->store_bytes.n),
			      lb_human_bytes(got, m->received_bytes.n), m->connections.n);
	}
}
