#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "check_int.h"

#define S_NS 1000000000ull

static const uint64_t default_timeout_ns[RB_ACTION_COUNT] = {
	[RB_FENCE] = 120 * S_NS, [RB_BOOT] = 600 * S_NS, [RB_STOP] = 300 * S_NS,
	[RB_PROBE] = 300 * S_NS, [RB_EXEC] = 300 * S_NS, [RB_REPORT] = 60 * S_NS,
};

static void *alloc_items(struct rb_check *k, size_t count, size_t size)
{
	void *p = calloc(count + 1, size);

	if (p == NULL)
		k->no_memory = true;
	return p;
}

/* Is @n (may be NULL: absent) a list of at most @max? Absent or wrong gives 0 items. */
static size_t list_count(struct rb_check *k, const struct lb_conf_node *n, const char *key,
			 size_t min, size_t max)
{
	if (n == NULL)
		return 0;
	if (lb_conf_kind(n) != LB_CONF_SEQ) {
		lb_conf_problem(k->c, n, "%s: a list expected", key);
		return 0;
	}
	if (lb_conf_count(n) < min) {
		lb_conf_problem(k->c, n, "%s: the list is empty", key);
		return 0;
	}
	if (lb_conf_count(n) > max) {
		lb_conf_problem(k->c, n, "%s: %zu items, at most %zu", key, lb_conf_count(n), max);
		return 0;
	}
	return lb_conf_count(n);
}

static bool is_map(struct rb_check *k, const struct lb_conf_node *n, const char *what)
{
	if (lb_conf_kind(n) == LB_CONF_MAP)
		return true;
	lb_conf_problem(k->c, n, "%s: a map expected, such as {id: name, ...}", what);
	return false;
}

/* ---- top-level lists ---- */

static void check_vars(struct rb_check *k, const struct lb_conf_node *n)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
	struct rb_runbook *rb = k->rb;

	if (n == NULL || !is_map(k, n, "vars"))
		return;
	if (lb_conf_count(n) > RB_MAX_VARS) {
		lb_conf_problem(k->c, n, "vars: %zu, at most %u", lb_conf_count(n), RB_MAX_VARS);
		return;
	}
	rb->vars = alloc_items(k, lb_conf_count(n), sizeof(*rb->vars));
	if (rb->vars == NULL)
		return;
	for (size_t i = 0; i < lb_conf_count(n); i++) {
		const char *name = lb_conf_key(n, i);
		const char *value = rb_text_of(k, lb_conf_item(n, i), "vars");
		struct rb_var *v = &rb->vars[rb->var_count];

		if (strspn(name, letters) != strlen(name) || !rb_name_ok(name))
			lb_conf_problem(k->c, lb_conf_key_node(n, i),
					"vars: a variable's name is 1 to 64 of A-Z a-z 0-9 _");
		else if (value != NULL) {
			(void)snprintf(v->name, sizeof(v->name), "%s", name);
			(void)snprintf(v->value, sizeof(v->value), "%s", value);
			rb->var_count++;
		}
	}
}

static void check_networks(struct rb_check *k, const struct lb_conf_node *n)
{
	struct rb_runbook *rb = k->rb;

	if (n == NULL || !is_map(k, n, "networks"))
		return;
	if (lb_conf_count(n) > RB_MAX_MAPS) {
		lb_conf_problem(k->c, n, "networks: %zu, at most %u", lb_conf_count(n),
				RB_MAX_MAPS);
		return;
	}
	rb->networks = alloc_items(k, lb_conf_count(n), sizeof(*rb->networks));
	if (rb->networks == NULL)
		return;
	for (size_t i = 0; i < lb_conf_count(n); i++) {
		struct rb_map_network *m = &rb->networks[rb->network_count];

		if (!rb_name_ok(lb_conf_key(n, i))) {
			lb_conf_problem(k->c, lb_conf_key_node(n, i),
					"networks: a name is 1 to 64 of A-Z a-z 0-9 . _ -");
			continue;
		}
		if (!is_map(k, lb_conf_item(n, i), "network"))
			continue;
		if (lb_conf_count(lb_conf_item(n, i)) == 0)
			lb_conf_problem(k->c, lb_conf_item(n, i), "network: maps to nothing");
		(void)snprintf(m->name, sizeof(m->name), "%s", lb_conf_key(n, i));
		rb_fill(k, lb_conf_item(n, i), RB_SEC_NETWORK, RB_ALL_ACTIONS, m);
		rb->network_count++;
	}
}

static bool ranges_meet(uint32_t a, uint32_t b, uint8_t a_bits, uint8_t b_bits)
{
	uint8_t bits = a_bits < b_bits ? a_bits : b_bits;
	uint32_t mask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);

	return (a & mask) == (b & mask);
}

static void check_ip_overlap(struct rb_check *k, const struct lb_conf_node *item, size_t at)
{
	const struct rb_map_ip *m = &k->rb->ips[at];

	for (size_t i = 0; i < at; i++) {
		const struct rb_map_ip *o = &k->rb->ips[i];

		if (ranges_meet(m->from, o->from, m->prefix_bits, o->prefix_bits))
			lb_conf_problem(k->c, lb_conf_get(item, "from"),
					"from: overlaps with ip map %zu", i + 1);
		if (ranges_meet(m->to, o->to, m->prefix_bits, o->prefix_bits))
			lb_conf_problem(k->c, lb_conf_get(item, "to"),
					"to: overlaps with ip map %zu", i + 1);
	}
}

static void check_ips(struct rb_check *k, const struct lb_conf_node *n)
{
	struct rb_runbook *rb = k->rb;
	size_t count = list_count(k, n, "ips", 0, RB_MAX_MAPS);

	if (count == 0)
		return;
	rb->ips = alloc_items(k, count, sizeof(*rb->ips));
	if (rb->ips == NULL)
		return;
	for (size_t i = 0; i < count; i++) {
		const struct lb_conf_node *item = lb_conf_item(n, i);
		size_t before = lb_conf_problem_count(k->c);
		struct rb_ip_in in = {0};

		if (!is_map(k, item, "ip map"))
			continue;
		rb_fill(k, item, RB_SEC_IP, RB_ALL_ACTIONS, &in);
		if (lb_conf_problem_count(k->c) != before)
			continue;
		if (in.from.bits != in.to.bits) {
			lb_conf_problem(k->c, lb_conf_get(item, "to"),
					"to: /%u is not as large as from: /%u", in.to.bits,
					in.from.bits);
			continue;
		}
		rb->ips[rb->ip_count] = (struct rb_map_ip){in.from.addr, in.to.addr, in.to.bits};
		check_ip_overlap(k, item, rb->ip_count);
		rb->ip_count++;
	}
}

static void check_maps(struct rb_check *k, const struct lb_conf_node *n)
{
	char nothing[8];

	if (n == NULL || !is_map(k, n, "maps"))
		return;
	rb_fill(k, n, RB_SEC_MAPS, RB_ALL_ACTIONS, nothing);
	check_networks(k, lb_conf_get(n, "networks"));
	check_ips(k, lb_conf_get(n, "ips"));
}

static uint32_t find_group(const struct rb_runbook *rb, const char *id)
{
	for (uint32_t i = 0; i < rb->group_count; i++)
		if (strcmp(rb->groups[i].id, id) == 0)
			return i;
	return RB_NO_GROUP;
}

static void check_groups(struct rb_check *k, const struct lb_conf_node *n)
{
	struct rb_runbook *rb = k->rb;
	size_t count = list_count(k, n, "groups", 0, RB_MAX_GROUPS);

	rb->groups = alloc_items(k, count, sizeof(*rb->groups));
	if (rb->groups == NULL)
		return;
	for (size_t i = 0; i < count; i++) {
		const struct lb_conf_node *item = lb_conf_item(n, i);
		struct rb_group g = {.on_member_failure = RB_POLICY_HALT};

		if (!is_map(k, item, "group"))
			continue;
		rb_fill(k, item, RB_SEC_GROUP, RB_ALL_ACTIONS, &g);
		if (g.id[0] != '\0' && find_group(rb, g.id) != RB_NO_GROUP)
			lb_conf_problem(k->c, lb_conf_get(item, "id"),
					"group \"%s\" is there twice", g.id);
		rb->groups[rb->group_count++] = g;
	}
}

/* ---- steps ---- */

static void check_probe(struct rb_check *k, const struct lb_conf_node *item,
			const struct rb_step *s, struct rb_probe *out)
{
	struct rb_probe_in in = {.within_ns = 120 * S_NS};
	unsigned kinds = 0;

	if (!is_map(k, item, "probe"))
		return;
	rb_fill(k, item, RB_SEC_PROBE, RB_ALL_ACTIONS, &in);
	kinds += lb_conf_get(item, "tcp") != NULL;
	kinds += lb_conf_get(item, "serial") != NULL;
	kinds += lb_conf_get(item, "guest") != NULL;
	if (kinds != 1)
		lb_conf_problem(k->c, item, "probe: exactly one of tcp, serial, guest expected");
	if (lb_conf_get(item, "within") != NULL && in.within_ns > s->timeout_ns)
		lb_conf_problem(k->c, lb_conf_get(item, "within"),
				"within: longer than the step's timeout");
	out->within_ns = in.within_ns < s->timeout_ns ? in.within_ns : s->timeout_ns;
	out->port = in.port;
	if (lb_conf_get(item, "tcp") != NULL) {
		out->kind = RB_PROBE_TCP;
	} else if (lb_conf_get(item, "serial") != NULL) {
		out->kind = RB_PROBE_SERIAL;
		(void)snprintf(out->text, sizeof(out->text), "%s", in.serial);
	} else {
		out->kind = RB_PROBE_GUEST;
		(void)snprintf(out->text, sizeof(out->text), "heartbeat");
	}
}

static void check_probes(struct rb_check *k, const struct lb_conf_node *n, struct rb_step *s)
{
	size_t count = list_count(k, n, "probes", 1, RB_MAX_PROBES);
	struct rb_probe *probes;

	if (count == 0)
		return;
	probes = alloc_items(k, count, sizeof(*probes));
	if (probes == NULL)
		return;
	s->probes = probes;
	s->probe_count = count;
	for (size_t i = 0; i < count; i++)
		check_probe(k, lb_conf_item(n, i), s, &probes[i]);
}

static void check_argv(struct rb_check *k, const struct lb_conf_node *n, struct rb_step *s)
{
	size_t count = list_count(k, n, "run", 1, RB_MAX_ARGS);
	const char **argv;

	if (count == 0)
		return;
	argv = alloc_items(k, count, sizeof(*argv));
	if (argv == NULL)
		return;
	s->run = argv;
	for (size_t i = 0; i < count; i++) {
		const struct lb_conf_node *item = lb_conf_item(n, i);
		const char *text = rb_text_of(k, item, "run");

		argv[i] = strdup(text != NULL ? text : "");
		if (argv[i] == NULL) {
			k->no_memory = true;
			return;
		}
		s->run_count = i + 1;
		if (i == 0 && text != NULL && text[0] != '/')
			lb_conf_problem(k->c, item, "run: the program must be an absolute path");
		if (i == 0 && text != NULL && strchr(text, '$') != NULL)
			lb_conf_problem(k->c, item,
					"run: the program may not come from a variable");
	}
}

static void check_policy(struct rb_check *k, const struct lb_conf_node *n, struct rb_step *s)
{
	const struct lb_conf_node *g = lb_conf_get(n, "group");
	const char *id = g != NULL ? lb_conf_text(g) : NULL;

	s->group = RB_NO_GROUP;
	if (g != NULL && s->is_finally) {
		lb_conf_problem(k->c, g, "group: a finally step is in no group");
	} else if (id != NULL && rb_name_ok(id)) {
		const char *words[RB_MAX_GROUPS + 1] = {NULL};
		const char *near;

		for (size_t i = 0; i < k->rb->group_count; i++)
			words[i] = k->rb->groups[i].id;
		near = lb_nearest_word(id, words);
		s->group = find_group(k->rb, id);
		if (s->group == RB_NO_GROUP && near != NULL)
			lb_conf_problem(k->c, g, "group: no group \"%s\", did you mean \"%s\"?", id,
					near);
		else if (s->group == RB_NO_GROUP)
			lb_conf_problem(k->c, g, "group: no group \"%s\"", id);
	}
	if (lb_conf_get(n, "on_failure") == NULL && s->group != RB_NO_GROUP)
		s->on_failure = k->rb->groups[s->group].on_member_failure;
	if (lb_conf_get(n, "on_timeout") == NULL)
		s->on_timeout = s->on_failure;
	if (lb_conf_get(n, "backoff") != NULL && s->retries == 0)
		lb_conf_problem(k->c, lb_conf_get(n, "backoff"), "backoff: there are no retries");
}

static void check_point(struct rb_check *k, const struct lb_conf_node *n, const struct rb_step *s)
{
	size_t hex = strspn(s->point, "0123456789abcdef");

	if (n == NULL || strcmp(s->point, "latest-good") == 0 || strcmp(s->point, "latest") == 0)
		return;
	if (s->point[0] != '\0' && (hex < 4 || s->point[hex] != '\0'))
		lb_conf_problem(k->c, n,
				"point: latest-good, latest, or at least 4 hex digits of an id");
}

static void check_step(struct rb_check *k, const struct lb_conf_node *n, struct rb_step *s)
{
	const struct lb_conf_node *an = lb_conf_get(n, "action");
	const char *name = an != NULL ? lb_conf_text(an) : NULL;
	enum rb_action a = RB_ACTION_COUNT;

	for (int i = 0; i < RB_ACTION_COUNT && name != NULL; i++)
		if (strcmp(rb_action_name((enum rb_action)i), name) == 0)
			a = (enum rb_action)i;
	if (a != RB_ACTION_COUNT && !rb_action_available(a)) {
		const struct lb_conf_node *id = lb_conf_get(n, "id");

		lb_conf_problem(k->c, an, "action: %s is not available in this version", name);
		if (id != NULL && lb_conf_text(id) != NULL && rb_name_ok(lb_conf_text(id)))
			(void)snprintf(s->id, sizeof(s->id), "%s", lb_conf_text(id));
		return; /* its keys are those of a later version */
	}
	if (a != RB_ACTION_COUNT)
		s->timeout_ns = default_timeout_ns[a];
	s->modes = k->rb->modes;
	s->backoff_min_ns = 5 * S_NS;
	s->backoff_max_ns = 60 * S_NS;
	rb_fill(k, n, RB_SEC_STEP, a != RB_ACTION_COUNT ? RB_BIT(a) : RB_ALL_ACTIONS, s);
	if (a == RB_ACTION_COUNT)
		return;
	if (s->action == RB_BOOT && s->point[0] == '\0')
		(void)snprintf(s->point, sizeof(s->point), "latest-good");
	check_point(k, lb_conf_get(n, "point"), s);
	check_policy(k, n, s);
	if (a == RB_BOOT || a == RB_PROBE)
		check_probes(k, lb_conf_get(n, "probes"), s);
	if (a == RB_EXEC)
		check_argv(k, lb_conf_get(n, "run"), s);
}

static void check_steps(struct rb_check *k, const struct lb_conf_node *n, size_t count,
			bool finally)
{
	for (size_t i = 0; i < count; i++) {
		const struct lb_conf_node *item = lb_conf_item(n, i);
		size_t before = lb_conf_problem_count(k->c);
		struct rb_step *s = &k->rb->steps[k->rb->step_count];

		if (!is_map(k, item, "step"))
			continue;
		s->is_finally = finally;
		s->group = RB_NO_GROUP;
		s->line = lb_conf_line(item);
		s->column = lb_conf_column(item);
		check_step(k, item, s);
		k->step_nodes[k->rb->step_count] = item;
		k->step_bad[k->rb->step_count] = lb_conf_problem_count(k->c) != before;
		k->rb->step_count++;
	}
}

void rb_check_document(struct rb_check *k, const struct lb_conf_node *root)
{
	struct rb_top top = {.modes = 1u << RB_DRILL | 1u << RB_FAILOVER | 1u << RB_PLANNED};
	const struct lb_conf_node *steps, *finally;
	size_t n_steps, n_finally;

	if (root == NULL || !is_map(k, root, "runbook"))
		return;
	rb_fill(k, root, RB_SEC_TOP, RB_ALL_ACTIONS, &top);
	memcpy(k->rb->name, top.name, sizeof(top.name));
	k->rb->rto_ns = top.rto_ns;
	k->rb->modes = top.modes;
	check_vars(k, lb_conf_get(root, "vars"));
	check_maps(k, lb_conf_get(root, "maps"));
	check_groups(k, lb_conf_get(root, "groups"));
	steps = lb_conf_get(root, "steps");
	finally = lb_conf_get(root, "finally");
	n_steps = list_count(k, steps, "steps", 1, RB_MAX_STEPS);
	n_finally = list_count(k, finally, "finally", 0, RB_MAX_STEPS - n_steps);
	k->rb->steps = alloc_items(k, n_steps + n_finally, sizeof(*k->rb->steps));
	k->step_nodes = alloc_items(k, n_steps + n_finally, sizeof(struct lb_conf_node *));
	k->step_bad = alloc_items(k, n_steps + n_finally, sizeof(*k->step_bad));
	if (k->no_memory)
		return;
	check_steps(k, steps, n_steps, false);
	k->rb->finally_first = k->rb->step_count;
	check_steps(k, finally, n_finally, true);
}
