#include "runbooks/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "runbooks/run.h"
#include "str.h"

struct node {
	uint32_t waits; /* predecessors not placed yet */
	uint32_t wave;
	bool in_mode;
	uint64_t start_ns, expect_ns;
	uint64_t latest_end_ns;
};

static uint64_t expect_of(const struct rb_step *s, uint64_t known_ns)
{
	if (known_ns != 0)
		return known_ns;
	if (s->action == RB_WAIT)
		return s->wait_ns;
	return s->budget_ns != 0 ? s->budget_ns : s->timeout_ns / 2;
}

static uint64_t worst_of(const struct rb_step *s)
{
	uint64_t sum_ns = s->timeout_ns + RB_CANCEL_GRACE_NS;
	uint64_t wait_ns = s->backoff_min_ns;

	if (s->action == RB_WAIT)
		return s->wait_ns;
	for (uint32_t i = 0; i < s->retries; i++) {
		sum_ns += s->timeout_ns + RB_CANCEL_GRACE_NS + wait_ns;
		wait_ns = wait_ns * 2 < s->backoff_max_ns ? wait_ns * 2 : s->backoff_max_ns;
	}
	return sum_ns;
}

/* Kahn's order into @order; earliest starts on the way. A step left out takes no time and no wave.
 */
static void forward(const struct rb_runbook *rb, struct node *nodes, uint32_t *order)
{
	uint32_t n = (uint32_t)rb->step_count, placed = 0;

	for (uint32_t b = 0; b < n; b++) {
		for (uint32_t a = 0; a < n; a++)
			nodes[b].waits += a != b && rb_runbook_edge(rb, a, b) ? 1 : 0;
		if (nodes[b].waits == 0)
			order[placed++] = b;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct node *a = &nodes[order[i]];

		LB_ASSERT(i < placed); /* the checker refused cycles */
		for (uint32_t b = 0; b < n; b++) {
			struct node *nb = &nodes[b];
			uint64_t end_ns = a->start_ns + a->expect_ns;

			if (b == order[i] || !rb_runbook_edge(rb, order[i], b))
				continue;
			if (end_ns > nb->start_ns)
				nb->start_ns = end_ns;
			if (a->wave + (a->in_mode ? 1 : 0) > nb->wave)
				nb->wave = a->wave + (a->in_mode ? 1 : 0);
			if (--nb->waits == 0)
				order[placed++] = b;
		}
	}
}

static void backward(const struct rb_runbook *rb, struct node *nodes, const uint32_t *order,
		     uint64_t total_ns)
{
	uint32_t n = (uint32_t)rb->step_count;

	for (uint32_t i = n; i-- > 0;) {
		struct node *a = &nodes[order[i]];

		a->latest_end_ns = total_ns;
		for (uint32_t b = 0; b < n; b++) {
			uint64_t latest_ns = nodes[b].latest_end_ns - nodes[b].expect_ns;

			if (b != order[i] && rb_runbook_edge(rb, order[i], b) &&
			    latest_ns < a->latest_end_ns)
				a->latest_end_ns = latest_ns;
		}
	}
}

static void emit(struct rb_plan *p, const struct rb_runbook *rb, const struct node *nodes)
{
	for (uint32_t i = 0; i < rb->step_count; i++)
		if (nodes[i].in_mode && nodes[i].wave >= p->wave_count)
			p->wave_count = nodes[i].wave + 1;
	for (uint32_t w = 0; w < p->wave_count; w++) {
		for (uint32_t i = 0; i < rb->step_count; i++) {
			const struct node *n = &nodes[i];
			uint64_t slack_ns = n->latest_end_ns - n->start_ns - n->expect_ns;

			if (!n->in_mode || n->wave != w)
				continue;
			p->steps[p->step_count++] = (struct rb_plan_step){
				.step = i,
				.wave = w,
				.start_ns = n->start_ns,
				.expect_ns = n->expect_ns,
				.slack_ns = slack_ns,
				.worst_ns = worst_of(&rb->steps[i]),
				.critical = slack_ns == 0,
			};
		}
	}
}

static void schedule(struct rb_plan *p, const struct rb_runbook *rb, struct node *nodes,
		     uint32_t *order, const uint64_t *expect_ns)
{
	for (uint32_t i = 0; i < rb->step_count; i++) {
		nodes[i].in_mode = (rb->steps[i].modes & (1u << p->mode)) != 0;
		if (nodes[i].in_mode)
			nodes[i].expect_ns =
				expect_of(&rb->steps[i], expect_ns != NULL ? expect_ns[i] : 0);
	}
	forward(rb, nodes, order);
	for (uint32_t i = 0; i < rb->step_count; i++) {
		uint64_t end_ns = nodes[i].start_ns + nodes[i].expect_ns;

		if (end_ns > p->total_ns)
			p->total_ns = end_ns;
		if (!rb->steps[i].is_finally && end_ns > p->ready_ns)
			p->ready_ns = end_ns;
	}
	backward(rb, nodes, order, p->total_ns);
	emit(p, rb, nodes);
	p->rto_ns = rb->rto_ns;
	p->fits_rto = rb->rto_ns == 0 || p->ready_ns <= rb->rto_ns;
}

int rb_plan_create(struct rb_plan **out, const struct rb_runbook *rb, enum rb_mode mode,
		   const uint64_t *expect_ns, struct lb_err *err)
{
	struct rb_plan *p = calloc(1, sizeof(*p));
	struct node *nodes = calloc(rb->step_count + 1, sizeof(*nodes));
	uint32_t *order = calloc(rb->step_count + 1, sizeof(*order));
	int rc = 0;

	if (p != NULL)
		p->steps = calloc(rb->step_count + 1, sizeof(*p->steps));
	if (p == NULL || p->steps == NULL || nodes == NULL || order == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "plan of %s", rb->name);
	} else if ((rb->modes & (1u << mode)) == 0) {
		rc = lb_err_set(err, LB_EINPUT, 0, "runbook %s has no mode %s", rb->name,
				rb_mode_name(mode));
	} else {
		p->mode = mode;
		schedule(p, rb, nodes, order, expect_ns);
		*out = p;
		p = NULL;
	}
	free(nodes);
	free(order);
	rb_plan_destroy(p);
	return rc;
}

void rb_plan_destroy(struct rb_plan *p)
{
	if (p == NULL)
		return;
	free(p->steps);
	free(p);
}

static void add_what(struct rb_str *s, const struct rb_step *d)
{
	char text[RB_DURATION_TEXT];

	rb_str_add(s, "%s", rb_action_name(d->action));
	if (d->site[0] != '\0')
		rb_str_add(s, " %s", d->site);
	if (d->machine[0] != '\0')
		rb_str_add(s, " %s", d->machine);
	if (d->point[0] != '\0')
		rb_str_add(s, " from %s", d->point);
	if (d->action == RB_WAIT)
		rb_str_add(s, " %s", rb_duration_text(text, d->wait_ns));
	for (size_t i = 0; i < d->run_count; i++)
		rb_str_add(s, " %s", d->run[i]);
	for (size_t i = 0; i < d->probe_count; i++) {
		const struct rb_probe *p = &d->probes[i];

		if (p->kind == RB_PROBE_TCP)
			rb_str_add(s, ", tcp %u", p->port);
		else
			rb_str_add(s, ", %s \"%s\"",
				   p->kind == RB_PROBE_SERIAL ? "serial" : "guest", p->text);
	}
}

static void add_row(struct rb_str *s, const struct rb_plan_step *ps, const struct rb_step *d)
{
	char start[RB_DURATION_TEXT], takes[RB_DURATION_TEXT];
	char slack[RB_DURATION_TEXT], worst[RB_DURATION_TEXT];

	rb_str_add(s, "%c %4u  %8s  %8s  %8s  %8s  %-16s ", ps->critical ? '*' : ' ', ps->wave,
		   rb_duration_text(start, ps->start_ns), rb_duration_text(takes, ps->expect_ns),
		   rb_duration_text(slack, ps->slack_ns), rb_duration_text(worst, ps->worst_ns),
		   d->id);
	add_what(s, d);
	rb_str_add(s, "%s\n", d->is_finally ? " (finally)" : "");
}

char *rb_plan_text(const struct rb_plan *p, const struct rb_runbook *rb)
{
	char total[RB_DURATION_TEXT], ready[RB_DURATION_TEXT], goal[RB_DURATION_TEXT];
	struct rb_str s = {0};

	rb_str_add(&s, "plan of %s, mode %s: steps %zu, waves %u, ready after %s, ends after %s\n",
		   rb->name, rb_mode_name(p->mode), p->step_count, p->wave_count,
		   rb_duration_text(ready, p->ready_ns), rb_duration_text(total, p->total_ns));
	if (p->rto_ns != 0)
		rb_str_add(&s, "goal %s: %s\n", rb_duration_text(goal, p->rto_ns),
			   p->fits_rto ? "fits" : "DOES NOT FIT");
	rb_str_add(&s, "  wave     start     takes     slack   at most  step             what\n");
	for (size_t i = 0; i < p->step_count; i++)
		add_row(&s, &p->steps[i], &rb->steps[p->steps[i].step]);
	return rb_str_take(&s);
}
