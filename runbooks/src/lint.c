#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_int.h"

/* Node of value @key of step @i, or of the step itself. */
static const struct lb_conf_node *step_node(const struct rb_check *k, uint32_t i, const char *key)
{
	const struct lb_conf_node *n = key != NULL ? lb_conf_get(k->step_nodes[i], key) : NULL;

	return n != NULL ? n : k->step_nodes[i];
}

static void lint_ids(struct rb_check *k)
{
	const struct rb_runbook *rb = k->rb;

	for (uint32_t i = 0; i < rb->step_count; i++)
		for (uint32_t j = 0; j < i && rb->steps[i].id[0] != '\0'; j++)
			if (strcmp(rb->steps[i].id, rb->steps[j].id) == 0) {
				lb_conf_problem(k->c, step_node(k, i, "id"),
						"step \"%s\" is there already, in line %u",
						rb->steps[i].id, rb->steps[j].line);
				break;
			}
}

static void unknown_need(struct rb_check *k, const struct lb_conf_node *at, const char *id)
{
	const char *words[RB_MAX_STEPS + 1] = {NULL};
	const char *near;
	size_t count = 0;

	for (size_t i = 0; i < k->rb->step_count; i++)
		if (k->rb->steps[i].id[0] != '\0')
			words[count++] = k->rb->steps[i].id;
	near = lb_nearest_word(id, words);
	if (near != NULL)
		lb_conf_problem(k->c, at, "needs: no step \"%s\", did you mean \"%s\"?", id, near);
	else
		lb_conf_problem(k->c, at, "needs: no step \"%s\"", id);
}

/* The step named by one item of `needs` of step @i, or RB_NO_STEP and a problem. */
static uint32_t resolve_need(struct rb_check *k, uint32_t i, const struct lb_conf_node *item)
{
	const struct rb_step *s = &k->rb->steps[i];
	const char *id = rb_name_of(k, item, "needs");
	uint32_t at;

	if (id == NULL)
		return RB_NO_STEP;
	at = rb_runbook_find(k->rb, id);
	if (at == RB_NO_STEP)
		unknown_need(k, item, id);
	else if (at == i)
		lb_conf_problem(k->c, item, "needs: step \"%s\" needs itself", id);
	else if (s->is_finally && !k->rb->steps[at].is_finally)
		lb_conf_problem(k->c, item, "needs: finally steps wait for all steps anyway");
	else if (!s->is_finally && k->rb->steps[at].is_finally)
		lb_conf_problem(k->c, item, "needs: \"%s\" is a finally step, which runs last", id);
	else
		return at;
	return RB_NO_STEP;
}

static void lint_needs(struct rb_check *k, uint32_t i)
{
	const struct lb_conf_node *n = lb_conf_get(k->step_nodes[i], "needs");
	struct rb_step *s = &k->rb->steps[i];
	uint32_t *needs;

	if (n == NULL)
		return;
	if (lb_conf_kind(n) != LB_CONF_SEQ || lb_conf_count(n) > RB_MAX_NEEDS) {
		lb_conf_problem(k->c, n, "needs: a list of at most %u step ids expected",
				RB_MAX_NEEDS);
		return;
	}
	needs = calloc(lb_conf_count(n) + 1, sizeof(*needs));
	if (needs == NULL) {
		k->no_memory = true;
		return;
	}
	s->needs = needs;
	for (size_t j = 0; j < lb_conf_count(n); j++) {
		const struct lb_conf_node *item = lb_conf_item(n, j);
		uint32_t at = resolve_need(k, i, item);
		bool twice = false;

		for (size_t m = 0; m < s->need_count; m++)
			twice |= needs[m] == at;
		if (twice && at != RB_NO_STEP)
			lb_conf_problem(k->c, item, "needs: \"%s\" is there twice",
					k->rb->steps[at].id);
		else if (at != RB_NO_STEP)
			needs[s->need_count++] = at;
	}
}

static void lint_modes(struct rb_check *k, uint32_t i)
{
	const struct rb_step *s = &k->rb->steps[i];

	if (k->step_bad[i] || (s->modes & ~k->rb->modes) == 0)
		return;
	if ((s->modes & k->rb->modes) == 0)
		lb_conf_problem(k->c, step_node(k, i, "modes"),
				"step \"%s\" is never reached: the runbook has none of its modes",
				s->id);
	else
		lb_conf_problem(k->c, step_node(k, i, "modes"),
				"modes: the runbook itself does not have all of them");
}

/* ---- cycles ---- */

struct walk {
	struct rb_check *k;
	unsigned char *color; /* 0 new, 1 on the path, 2 done */
	uint32_t *path;
	size_t depth;
	bool told;
};

static void tell_cycle(struct walk *w, size_t from)
{
	const struct rb_runbook *rb = w->k->rb;
	char text[512];
	size_t len = 0;
	bool by_group = false;

	for (size_t i = from; i <= w->depth && len < sizeof(text); i++) {
		uint32_t s = w->path[i < w->depth ? i : from];
		uint32_t before = i > from ? w->path[i - 1] : RB_NO_STEP;
		bool need = before == RB_NO_STEP;

		for (size_t j = 0; !need && j < rb->steps[before].need_count; j++)
			need = rb->steps[before].needs[j] == s;
		by_group |= !need;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s",
					i == from ? "" : (need ? " needs " : " comes after "),
					rb->steps[s].id);
	}
	lb_conf_problem(w->k->c, step_node(w->k, w->path[from], "needs"),
			"step \"%s\" waits for itself: %s%s", rb->steps[w->path[from]].id, text,
			by_group ? " (by the priority of their groups)" : "");
	w->told = true;
}

/* Follows edges backwards: from a step to what it waits for. Depth is at most the number of steps.
 */
static void visit(struct walk *w, uint32_t s)
{
	const struct rb_runbook *rb = w->k->rb;

	w->color[s] = 1;
	w->path[w->depth++] = s;
	for (uint32_t p = 0; p < rb->step_count && !w->told; p++) {
		if (w->color[p] == 2 || !rb_runbook_edge(rb, p, s))
			continue;
		if (w->color[p] == 0) {
			visit(w, p);
			continue;
		}
		for (size_t i = 0; i < w->depth && !w->told; i++)
			if (w->path[i] == p)
				tell_cycle(w, i);
	}
	w->depth--;
	w->color[s] = 2;
}

static void lint_cycles(struct rb_check *k)
{
	size_t n = k->rb->step_count;
	struct walk w = {.k = k};

	w.color = calloc(n + 1, 1);
	w.path = calloc(n + 1, sizeof(*w.path));
	if (w.color == NULL || w.path == NULL)
		k->no_memory = true;
	for (uint32_t i = 0; i < n && !k->no_memory; i++) {
		w.told = false; /* one message for each knot, not for each step in it */
		w.depth = 0;
		if (w.color[i] == 0)
			visit(&w, i);
	}
	free(w.color);
	free(w.path);
}

/* ---- machines ---- */

static void reach_back(const struct rb_runbook *rb, uint32_t s, bool *seen)
{
	const struct rb_step *d = &rb->steps[s];

	for (size_t i = 0; i < d->need_count; i++) {
		if (seen[d->needs[i]])
			continue;
		seen[d->needs[i]] = true;
		reach_back(rb, d->needs[i], seen);
	}
	for (uint32_t p = 0; p < rb->step_count; p++) {
		if (seen[p] || !rb_barrier_edge(rb, p, s))
			continue;
		seen[p] = true;
		reach_back(rb, p, seen);
	}
}

static void lint_machine(struct rb_check *k, uint32_t i, bool *seen)
{
	const struct rb_runbook *rb = k->rb;
	const struct rb_step *s = &rb->steps[i];

	if (k->step_bad[i] || s->machine[0] == '\0')
		return;
	memset(seen, 0, rb->step_count);
	if (s->action == RB_PROBE)
		reach_back(rb, i, seen);
	for (uint32_t j = 0; j < rb->step_count; j++) {
		const struct rb_step *b = &rb->steps[j];

		if (j == i || k->step_bad[j] || b->action != RB_BOOT ||
		    strcmp(b->machine, s->machine) != 0 || (b->modes & s->modes) == 0)
			continue;
		if (s->action == RB_BOOT && j < i)
			lb_conf_problem(k->c, step_node(k, i, "machine"),
					"machine \"%s\" is booted by step \"%s\" already",
					s->machine, b->id);
		if (s->action == RB_PROBE && !seen[j])
			lb_conf_problem(
				k->c, step_node(k, i, "machine"),
				"probe of \"%s\" does not wait for step \"%s\", which boots it",
				s->machine, b->id);
	}
}

static void lint_machines(struct rb_check *k)
{
	bool *seen = calloc(k->rb->step_count + 1, sizeof(*seen));

	if (seen == NULL) {
		k->no_memory = true;
		return;
	}
	for (uint32_t i = 0; i < k->rb->step_count; i++)
		lint_machine(k, i, seen);
	free(seen);
}

/* ---- variables ---- */

static void lint_name(struct rb_check *k, const struct lb_conf_node *at, const char *name)
{
	const char *words[RB_MAX_VARS + 16] = {NULL};
	const char *near;
	size_t count = 0;

	for (size_t i = 0; i < k->rb->var_count; i++)
		words[count++] = k->rb->vars[i].name;
	for (size_t i = 0; rb_fact_names[i] != NULL; i++)
		words[count++] = rb_fact_names[i];
	for (size_t i = 0; i < count; i++)
		if (strcmp(words[i], name) == 0)
			return;
	near = lb_nearest_word(name, words);
	if (near != NULL)
		lb_conf_problem(k->c, at, "unknown variable ${%s}, did you mean ${%s}?", name,
				near);
	else
		lb_conf_problem(k->c, at, "unknown variable ${%s}", name);
}

static void lint_text(struct rb_check *k, const struct lb_conf_node *at, const char *text)
{
	char name[RB_NAME_BYTES];

	while ((text = strchr(text, '$')) != NULL) {
		if (text[1] == '$') {
			text += 2;
		} else if (text[1] == '{' && rb_var_name(text + 2, name, &text)) {
			lint_name(k, at, name);
		} else {
			lb_conf_problem(k->c, at, "run: \"$\" begins neither ${name} nor $$");
			return;
		}
	}
}

static void lint_vars(struct rb_check *k, uint32_t i)
{
	const struct rb_step *s = &k->rb->steps[i];
	const struct lb_conf_node *n = lb_conf_get(k->step_nodes[i], "run");

	for (size_t j = 0; j < s->run_count; j++)
		lint_text(k, lb_conf_item(n, j), s->run[j]);
}

void rb_lint(struct rb_check *k, const struct lb_conf_node *root)
{
	(void)root;
	lint_ids(k);
	for (uint32_t i = 0; i < k->rb->step_count && !k->no_memory; i++) {
		lint_needs(k, i);
		lint_modes(k, i);
		lint_vars(k, i);
	}
	if (k->no_memory)
		return;
	lint_cycles(k);
	lint_machines(k);
}
