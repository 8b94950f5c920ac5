/*
 * The durable record of a boot, and what is done to a boot by its record alone.
 *
 * Order in a new boot: end the lower attempt -> record (point, names) -> machine.xml, views, record
 * again (disks) -> define -> run -> record again (booted). Killed at any instant, the same attempt
 * asked again finds the record and so takes the same point, and adopts the domain if it is defined
 * (an overlay is complete before that); a higher attempt ends what the record names before it
 * replaces it, so that a domain found under our name is always of the record's own attempt.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/text.h"
#include "runs_int.h"

#define RECORD_MAX (64u << 10)
#define XML_MAX    (1u << 20)

static const char *const state_names[] = {"prepared", "booted", "stopped", "cleaned"};

const char *sa_boot_state_name(enum sa_boot_state s)
{
	return state_names[s];
}

void sa_boot_path(char *out, size_t out_bytes, const char *run_id, uint32_t step)
{
	(void)snprintf(out, out_bytes, "boots/%.8s/%" PRIu32, run_id, step);
}

static void file_path(char out[96], const struct sa_boot *b, const char *file)
{
	char dir[40];

	sa_boot_path(dir, sizeof(dir), b->run, b->step);
	(void)snprintf(out, 96, "%s/%s", dir, file);
}

/* ---- the record ---- */

static json_t *disks_json(const struct sa_boot *b)
{
	json_t *list = json_array();

	for (size_t i = 0; i < b->disks; i++)
		(void)json_array_append_new(list,
					    json_pack("{s:s, s:s, s:I}", "name", b->disk[i].name,
						      "socket", b->disk[i].socket, "size_bytes",
						      (json_int_t)b->disk[i].size_bytes));
	return list;
}

/* Both are parts of messages, and what is no UTF-8 is no JSON. */
static json_t *to_json(const struct sa_boot *b)
{
	char group[LB_ID_TEXT], point[LB_HASH_TEXT], isolation[sizeof(b->isolation)],
		cold[sizeof(b->cold)];

	memcpy(isolation, b->isolation, sizeof(isolation));
	memcpy(cold, b->cold, sizeof(cold));
	return json_pack("{s:i, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, "
			 "s:s, s:b, s:b, s:s, s:s, s:s, s:o}",
			 "format", 1, "run", b->run, "step", (json_int_t)b->step, "attempt",
			 (json_int_t)b->attempt, "mode", rb_mode_name(b->mode), "state",
			 state_names[b->state], "machine", b->machine, "domain", b->domain,
			 "address", b->address, "group", lb_id_text(&b->group, group), "point",
			 lb_hash_text(&b->point, point), "seq", (json_int_t)b->point_seq,
			 "captured_wall_ns", (json_int_t)b->point_wall_ns, "booted_wall_ns",
			 (json_int_t)b->booted_wall_ns, "isolation", lb_utf8_clean(isolation),
			 "isolated", (int)b->isolated, "memory", (int)b->memory, "cold",
			 lb_utf8_clean(cold), "driver", b->driver, "ram_socket", b->ram_socket,
			 "disks", disks_json(b));
}

static bool take(char *out, size_t out_bytes, const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL && (size_t)snprintf(out, out_bytes, "%s", s) < out_bytes;
}

static uint64_t number(const json_t *o, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(o, key));

	return n > 0 ? (uint64_t)n : 0;
}

static bool take_state(struct sa_boot *b, const json_t *o)
{
	char name[16];

	if (!take(name, sizeof(name), o, "state"))
		return false;
	for (int i = SA_BOOT_PREPARED; i <= SA_BOOT_CLEANED; i++)
		if (strcmp(name, state_names[i]) == 0) {
			b->state = (enum sa_boot_state)i;
			return true;
		}
	return false;
}

static bool take_disks(struct sa_boot *b, const json_t *list)
{
	if (!json_is_array(list) || json_array_size(list) > SA_HV_DISKS_MAX)
		return false;
	b->disks = json_array_size(list);
	for (size_t i = 0; i < b->disks; i++) {
		const json_t *d = json_array_get(list, i);

		if (!take(b->disk[i].name, sizeof(b->disk[i].name), d, "name") ||
		    !take(b->disk[i].socket, sizeof(b->disk[i].socket), d, "socket"))
			return false;
		b->disk[i].size_bytes = number(d, "size_bytes");
	}
	return true;
}

static bool take_ids(struct sa_boot *b, const json_t *o)
{
	char group[LB_ID_TEXT], point[LB_HASH_TEXT], mode[16];

	return take(group, sizeof(group), o, "group") && take(point, sizeof(point), o, "point") &&
	       take(mode, sizeof(mode), o, "mode") && lb_id_parse(&b->group, group, NULL) == 0 &&
	       lb_hash_parse(&b->point, point, NULL) == 0 &&
	       rb_mode_parse(&b->mode, mode, NULL) == 0;
}

static bool from_json(struct sa_boot *b, const json_t *o)
{
	if (json_integer_value(json_object_get(o, "format")) != 1 || !take_state(b, o) ||
	    !take_ids(b, o) || !take_disks(b, json_object_get(o, "disks")))
		return false;
	if (!take(b->run, sizeof(b->run), o, "run") ||
	    !take(b->machine, sizeof(b->machine), o, "machine") ||
	    !take(b->domain, sizeof(b->domain), o, "domain") ||
	    !take(b->address, sizeof(b->address), o, "address") ||
	    !take(b->isolation, sizeof(b->isolation), o, "isolation"))
		return false;
	b->step = (uint32_t)number(o, "step");
	b->attempt = (uint32_t)number(o, "attempt");
	b->point_seq = number(o, "seq");
	b->point_wall_ns = number(o, "captured_wall_ns");
	b->booted_wall_ns = number(o, "booted_wall_ns");
	b->isolated = json_is_true(json_object_get(o, "isolated"));
	/* not in records of before memory points */
	b->memory = json_is_true(json_object_get(o, "memory"));
	(void)take(b->cold, sizeof(b->cold), o, "cold");
	(void)take(b->driver, sizeof(b->driver), o, "driver");
	(void)take(b->ram_socket, sizeof(b->ram_socket), o, "ram_socket");
	return true;
}

/* LB_ENOTFOUND: no record of that step. LB_ECORRUPT: it is not one of ours. */
static int boot_read(struct sa_agent *a, const char *run_id, uint32_t step, struct sa_boot *out,
		     struct lb_err *err)
{
	struct sa_boot b = {.step = step};
	char dir[40], path[64];
	uint8_t *text = NULL;
	size_t len = 0;
	json_t *o;
	int rc;

	sa_boot_path(dir, sizeof(dir), run_id, step);
	(void)snprintf(path, sizeof(path), "%s/boot.json", dir);
	rc = lb_fs_read_all(a->state, path, RECORD_MAX, &text, &len, err);
	if (rc != 0)
		return rc;
	o = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	if (o == NULL || !from_json(&b, o) || b.step != step || strcmp(b.run, run_id) != 0)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%s is no record of a boot of this run", path);
	json_decref(o);
	if (rc != 0)
		return rc;
	(void)snprintf(b.dir, sizeof(b.dir), "%.200s/%s", a->cfg->state_dir, dir);
	*out = b;
	return 0;
}

int sa_boot_save(struct sa_agent *a, const struct sa_boot *b, struct lb_err *err)
{
	json_t *o = to_json(b);
	char *text = o != NULL ? json_dumps(o, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
	char path[96];
	int rc;

	file_path(path, b, "boot.json");
	rc = text == NULL ? lb_err_set(err, LB_ENOMEM, 0, "record of the boot of %s", b->machine)
			  : lb_fs_replace(a->state, path, text, strlen(text), err);
	free(text);
	json_decref(o);
	return rc;
}

int sa_boot_save_xml(struct sa_agent *a, const struct sa_boot *b, const char *xml,
		     struct lb_err *err)
{
	char path[96];

	file_path(path, b, "machine.xml");
	return lb_fs_replace(a->state, path, xml, strlen(xml), err);
}

static int make_dirs(struct sa_agent *a, const struct sa_boot *b, struct lb_err *err)
{
	char dir[40];
	int rc;

	(void)snprintf(dir, sizeof(dir), "boots/%.8s", b->run);
	rc = lb_fs_mkdir(a->state, dir, err);
	if (rc == 0)
		rc = lb_fs_sync_dir(a->state, "boots", err);
	if (rc == 0) {
		char step[40];

		sa_boot_path(step, sizeof(step), b->run, b->step);
		rc = lb_fs_mkdir(a->state, step, err);
	}
	return rc != 0 ? rc : lb_fs_sync_dir(a->state, dir, err);
}

int sa_boot_begin(struct sa_agent *a, struct sa_boot *b, struct lb_err *err)
{
	struct sa_boot old;
	int rc = boot_read(a, b->run, b->step, &old, err);

	if (rc == 0 && old.attempt > b->attempt)
		return lb_err_set(err, LB_EBUSY, 0, "attempt %u of this boot was made already",
				  old.attempt);
	if (rc == 0 && old.attempt == b->attempt) {
		*b = old;
		return 0;
	}
	if (rc == 0)
		rc = sa_boot_end(a, &old, true, err);
	else if (rc == LB_ENOTFOUND)
		rc = make_dirs(a, b, err);
	return rc != 0 ? rc : sa_boot_save(a, b, err);
}

void sa_boots_load(struct sa_run *s, uint32_t steps)
{
	for (uint32_t i = 0; i < steps; i++) {
		struct lb_err err = {0};
		struct sa_boot *b = malloc(sizeof(*b));
		int rc = b == NULL ? lb_err_set(&err, LB_ENOMEM, 0, "boot")
				   : boot_read(s->runs->agent, s->id, i, b, &err);

		if (rc == 0) {
			b->next = s->boots;
			s->boots = b;
			continue;
		}
		free(b);
		if (rc != LB_ENOTFOUND)
			lb_log(LB_LOG_ERROR, "run", "boot_unreadable", "run=%s", s->id, "step=%u",
			       i, "err=%s", err.msg, NULL);
	}
}

/* ---- the machine of a record ---- */

struct request {
	struct sa_hv_disk disk[SA_HV_DISKS_MAX];
	struct sa_hv_boot_cfg cfg;
};

static const char *or_null(const char *s)
{
	return s[0] != '\0' ? s : NULL;
}

static void make_request(struct request *q, struct sa_agent *a, const struct sa_boot *b,
			 const char *xml)
{
	const struct sa_network_cfg *net =
		b->mode == RB_DRILL ? &a->cfg->drill_network : &a->cfg->failover_network;

	for (size_t i = 0; i < b->disks; i++)
		q->disk[i] = (struct sa_hv_disk){.name = b->disk[i].name,
						 .nbd_socket = b->disk[i].socket,
						 .nbd_export = "",
						 .size_bytes = b->disk[i].size_bytes};
	q->cfg = (struct sa_hv_boot_cfg){.name = b->domain,
					 .machine_xml = xml,
					 .disks = q->disk,
					 .disk_count = b->disks,
					 .dir = b->dir,
					 .netns = or_null(net->netns),
					 .bridge = or_null(net->bridge),
					 .keep_uuid = b->mode != RB_DRILL,
					 .point = b->point};
}

static int read_xml(struct sa_agent *a, const struct sa_boot *b, uint8_t **out, struct lb_err *err)
{
	char path[96];
	size_t len;

	file_path(path, b, "machine.xml");
	return lb_fs_read_all(a->state, path, XML_MAX, out, &len, err);
}

int sa_boot_adopt(struct sa_agent *a, const struct sa_boot *b, struct sa_hv_machine **out,
		  struct lb_err *err)
{
	struct request q;
	uint8_t *xml = NULL;
	int rc;

	if (b->disks == 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "machine %s was never defined", b->machine);
	if (a->hv == NULL)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "this site has no `hypervisor` any more to find machine %s",
				  b->machine);
	rc = read_xml(a, b, &xml, err);
	if (rc != 0)
		return rc;
	make_request(&q, a, b, (const char *)xml);
	rc = sa_hv_adopt(a->hv, out, &q.cfg, err);
	free(xml);
	return rc;
}

/* Define it and let it go. */
static int start_new(struct sa_agent *a, const struct sa_hv_boot_cfg *cfg,
		     struct sa_hv_machine **vm, struct lb_err *err)
{
	int rc = sa_hv_fits(a->hv, cfg, err);

	if (rc == 0)
		rc = sa_hv_prepare(a->hv, vm, cfg, err);
	if (rc == 0)
		rc = sa_hv_start(*vm, err);
	if (rc != 0) {
		sa_hv_machine_destroy(*vm);
		*vm = NULL;
	}
	return rc;
}

/* The rungs within one attempt: from memory, else cold from the same point. */
static int climb(struct sa_agent *a, struct sa_boot *b, struct request *q,
		 const struct sa_boot_memory *memory, struct sa_hv_machine **vm, struct lb_err *err)
{
	struct lb_err why = {0};

	if (memory->state != NULL && b->memory) {
		q->cfg.state = memory->state;
		q->cfg.state_bytes = memory->state_bytes;
		q->cfg.ram_socket = b->ram_socket;
		q->cfg.order = memory->order;
		q->cfg.order_bytes = memory->order_bytes;
		if (start_new(a, &q->cfg, vm, &why) == 0)
			return 0;
		(void)snprintf(b->cold, sizeof(b->cold), "%.150s", why.msg);
		q->cfg.state = NULL;
		q->cfg.ram_socket = NULL;
		q->cfg.order_bytes = 0;
	}
	b->memory = false;
	return start_new(a, &q->cfg, vm, err);
}

static int note_booted(struct sa_agent *a, struct sa_boot *b, const struct sa_hv_machine *vm,
		       struct lb_err *err)
{
	b->state = SA_BOOT_BOOTED;
	if (b->booted_wall_ns == 0)
		b->booted_wall_ns = a->env->wall_ns(a->env);
	(void)snprintf(b->driver, sizeof(b->driver), "%s", sa_hv_driver(vm));
	return sa_boot_save(a, b, err);
}

/* It is there already, from before the agent's last start. What was in its memory went with its
 * process. */
static int go_on(struct sa_boot *b, struct sa_hv_machine *vm, struct lb_err *err)
{
	enum sa_hv_state st = SA_HV_RUNNING;

	if (b->memory && sa_hv_state(vm, &st, NULL) == 0 && st == SA_HV_OFF) {
		b->memory = false;
		(void)snprintf(b->cold, sizeof(b->cold), "found off: started from its own disks");
	}
	return sa_hv_start(vm, err);
}

int sa_boot_start(struct sa_agent *a, struct sa_boot *b, const char *xml,
		  const struct sa_boot_memory *memory, struct sa_hv_machine **out,
		  struct lb_err *err)
{
	struct sa_hv_machine *vm = NULL;
	struct request q;
	int rc;

	make_request(&q, a, b, xml);
	rc = sa_hv_adopt(a->hv, &vm, &q.cfg, err);
	if (rc == LB_ENOTFOUND)
		rc = climb(a, b, &q, memory, &vm, err);
	else if (rc == 0)
		rc = go_on(b, vm, err);
	if (rc == 0)
		rc = note_booted(a, b, vm, err);
	if (rc != 0)
		sa_hv_machine_destroy(vm);
	else
		*out = vm;
	return rc;
}

int sa_boot_restart(struct sa_agent *a, struct sa_boot *b, struct lb_err *err)
{
	struct sa_hv_machine *vm = NULL;
	int rc = sa_furnish_disks(a, b, err);

	if (rc == 0)
		rc = sa_boot_adopt(a, b, &vm, err);
	if (rc == 0)
		rc = sa_hv_start(vm, err);
	if (rc == 0) {
		b->memory = false;
		(void)snprintf(b->cold, sizeof(b->cold), "started again from its own disks");
		rc = note_booted(a, b, vm, err);
	}
	sa_hv_machine_destroy(vm);
	return rc;
}

int sa_boot_end(struct sa_agent *a, const struct sa_boot *b, bool remove, struct lb_err *err)
{
	struct sa_hv_machine *vm = NULL;
	int rc = sa_boot_adopt(a, b, &vm, err);

	if (rc == 0)
		rc = sa_hv_stop(vm, remove, err);
	if (rc == LB_ENOTFOUND) /* never there, or gone by itself meanwhile */
		rc = 0;
	sa_hv_machine_destroy(vm);
	if (rc == 0) /* not before: a machine that runs needs its disks */
		sa_view_stop_all(a->views, b->dir);
	return rc;
}

/* ---- the end of a drill ---- */

#define SWEEP_MAX 128u /* a boot makes some five files and five more per disk */

struct sweep {
	char name[SWEEP_MAX][SA_NAME_BYTES + 16];
	size_t n;
};

static int collect(void *arg, const char *name)
{
	struct sweep *w = arg;

	if (strcmp(name, "boot.json") != 0 && strcmp(name, "serial.log") != 0 && w->n < SWEEP_MAX &&
	    strlen(name) < sizeof(w->name[0]))
		memcpy(w->name[w->n++], name, strlen(name) + 1);
	return 0;
}

static int remove_files(struct sa_agent *a, const char *dir, struct lb_err *err)
{
	struct sweep *w = calloc(1, sizeof(*w));
	char path[40 + sizeof(w->name[0]) + 1];
	int rc = w == NULL ? lb_err_set(err, LB_ENOMEM, 0, "list %s", dir)
			   : lb_fs_list(a->state, dir, collect, w, err);

	for (size_t i = 0; rc == 0 && i < w->n; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, w->name[i]);
		rc = lb_fs_unlink(a->state, path, err);
	}
	free(w);
	return rc;
}

int sa_boot_clean(struct sa_agent *a, struct sa_boot *b, struct lb_err *err)
{
	char dir[40];
	int rc = sa_boot_end(a, b, true, err);

	sa_boot_path(dir, sizeof(dir), b->run, b->step);
	if (rc == 0)
		rc = remove_files(a, dir, err);
	if (rc != 0 && rc != LB_ENOTFOUND)
		return rc;
	b->state = SA_BOOT_CLEANED;
	return rc == LB_ENOTFOUND ? 0 : sa_boot_save(a, b, err); /* nothing was made at all */
}
