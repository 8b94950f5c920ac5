#include "runbooks/lang.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "check_int.h"

static const struct {
	const char *name;
	bool available;
} actions[RB_ACTION_COUNT] = {
#define ROW(id, text, avail, help) [id] = {text, avail},
	RB_ACTIONS(ROW)
#undef ROW
};

bool rb_action_available(enum rb_action a)
{
	return actions[a].available;
}

const char *rb_action_name(enum rb_action a)
{
	return actions[a].name;
}

const char *rb_mode_name(enum rb_mode m)
{
	static const char *const names[RB_MODE_COUNT] = {"drill", "failover", "planned"};

	return names[m];
}

const char *rb_policy_name(enum rb_policy p)
{
	static const char *const names[] = {"halt", "continue", "ask"};

	return names[p];
}

int rb_mode_parse(enum rb_mode *out, const char *text, struct lb_err *err)
{
	for (int m = 0; m < RB_MODE_COUNT; m++) {
		if (strcmp(text, rb_mode_name((enum rb_mode)m)) == 0) {
			*out = (enum rb_mode)m;
			return 0;
		}
	}
	return lb_err_set(err, LB_EINPUT, 0, "mode \"%.64s\": one of drill, failover, planned",
			  text);
}

uint32_t rb_runbook_find(const struct rb_runbook *rb, const char *step_id)
{
	for (uint32_t i = 0; i < rb->step_count; i++)
		if (strcmp(rb->steps[i].id, step_id) == 0)
			return i;
	return RB_NO_STEP;
}

bool rb_barrier_edge(const struct rb_runbook *rb, uint32_t a, uint32_t b)
{
	const struct rb_step *sa = &rb->steps[a], *sb = &rb->steps[b];

	if (sa->is_finally)
		return false;
	if (sb->is_finally)
		return true;
	return sa->group != RB_NO_GROUP && sb->group != RB_NO_GROUP &&
	       rb->groups[sa->group].priority < rb->groups[sb->group].priority;
}

bool rb_runbook_edge(const struct rb_runbook *rb, uint32_t a, uint32_t b)
{
	if (rb_barrier_edge(rb, a, b))
		return true;
	for (size_t i = 0; i < rb->steps[b].need_count; i++)
		if (rb->steps[b].needs[i] == a)
			return true;
	return false;
}

static void free_step(struct rb_step *s)
{
	for (size_t i = 0; i < s->run_count; i++)
		free((char *)s->run[i]);
	free((void *)s->run);
	free((void *)s->needs);
	free((void *)s->probes);
}

void rb_runbook_destroy(struct rb_runbook *rb)
{
	if (rb == NULL)
		return;
	for (size_t i = 0; i < rb->step_count; i++)
		free_step(&rb->steps[i]);
	free(rb->steps);
	free(rb->groups);
	free(rb->ips);
	free(rb->networks);
	free(rb->vars);
	free(rb->source);
	free(rb);
}

static int keep_source(struct rb_runbook *rb, const char *name, const char *text, size_t len,
		       struct lb_err *err)
{
	rb->source = malloc(len + 1);
	if (rb->source == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "runbook %s", name);
	if (len != 0)
		memcpy(rb->source, text, len);
	rb->source[len] = '\0';
	rb->source_bytes = len;
	lb_sha256(&rb->source_hash, text, len);
	return 0;
}

static int check_text(struct rb_check *k, const char *name, const char *text, size_t len,
		      struct lb_err *err)
{
	int rc = lb_conf_parse(&k->c, name, text, len, err);

	if (rc != 0)
		return rc;
	rb_check_document(k, lb_conf_root(k->c));
	if (!k->no_memory)
		rb_lint(k, lb_conf_root(k->c));
	if (k->no_memory)
		return lb_err_set(err, LB_ENOMEM, 0, "check %s", name);
	return lb_conf_check(k->c, err);
}

int rb_runbook_parse(struct rb_runbook **out, const char *name, const char *text, size_t len,
		     char **problems, struct lb_err *err)
{
	struct rb_check k = {0};
	int rc;

	if (problems != NULL)
		*problems = NULL;
	if (len > RB_MAX_SOURCE)
		return lb_err_set(err, LB_EINPUT, 0, "%s: %zu bytes, at most %u", name, len,
				  RB_MAX_SOURCE);
	if (len != 0 && memchr(text, '\0', len) != NULL)
		return lb_err_set(err, LB_EINPUT, 0, "%s: holds a NUL byte", name);
	k.rb = calloc(1, sizeof(*k.rb));
	if (k.rb == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "runbook %s", name);
	rc = keep_source(k.rb, name, text, len, err);
	if (rc == 0)
		rc = check_text(&k, name, text, len, err);
	if (problems != NULL && k.c != NULL && lb_conf_problem_count(k.c) != 0)
		*problems = strdup(lb_conf_problems(k.c));
	if (rc == 0) {
		*out = k.rb;
		k.rb = NULL;
	}
	lb_conf_destroy(k.c);
	free(k.step_bad);
	free((void *)k.step_nodes);
	rb_runbook_destroy(k.rb);
	return rc;
}
