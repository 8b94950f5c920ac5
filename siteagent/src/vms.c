#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_api_int.h"
#include "base/env.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/text.h"
#include "imaging/dev.h"
#include "runs_int.h"
#include "vmcore/host.h"
#include "vmrun_int.h"
#include "vms_int.h"

#define PAUSE_NS    UINT64_C(20000000000)
#define FENCE_ALARM "fence_failed: "

enum command {
	CMD_LIST,
	CMD_SHOW,
	CMD_RUN,
	CMD_PAUSE,
	CMD_RESUME,
	CMD_STOP,
	CMD_RESET,
	CMD_POWER_BUTTON,
	CMD_FENCE
};
static const char *const command_names[] = {"list", "show",  "run",          "pause", "resume",
					    "stop", "reset", "power-button", "fence"};

/* Something asked of machines: on the pool. */
struct request {
	struct request *next, **prev;
	struct sa_vms *vms;
	struct sa_api_request *rq; /* NULL: nobody waits for an answer */
	enum command command;
	struct sa_vmdesc desc; /* RUN */
	char program[SA_PATH_BYTES];
	struct sa_boot
		*boot; /* RUN of a machine that a run booted: a copy; NULL: it is defined here */
	json_t *answer;
	int rc;
	struct lb_err err;
	size_t places;
	struct sa_vm_place place[]; /* as many as allocated for */
};

struct sa_vms {
	struct sa_agent *agent;
	struct request *first;
};

int sa_vms_create(struct sa_vms **out, struct sa_agent *a, struct lb_err *err)
{
	struct sa_vms *v = calloc(1, sizeof(*v));
	int rc;

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "machines");
	v->agent = a;
	rc = lb_fs_mkdir(a->state, "vms", err);
	if (rc != 0)
		free(v);
	else
		*out = v;
	return rc;
}

static void request_free(struct request *q)
{
	*q->prev = q->next;
	if (q->next != NULL)
		q->next->prev = q->prev;
	json_decref(q->answer);
	free(q->boot);
	free(q);
}

void sa_vms_destroy(struct sa_vms *v)
{
	struct request *next;

	if (v == NULL)
		return;
	for (struct request *q = v->first; q != NULL; q = next) {
		next = q->next;
		request_free(q);
	}
	free(v);
}

static struct request *request_new(struct sa_vms *v, enum command command, size_t room)
{
	struct request *q = calloc(1, sizeof(*q) + room * sizeof(q->place[0]));

	if (q == NULL)
		return NULL;
	q->vms = v;
	q->command = command;
	q->next = v->first;
	q->prev = &v->first;
	if (q->next != NULL)
		q->next->prev = &q->next;
	v->first = q;
	return q;
}

/* ---- which there are ---- */

int sa_vm_dir(const struct sa_agent *a, const struct sa_group_cfg *g,
	      const struct sa_machine_cfg *m, char *out, struct lb_err *err)
{
	int n = snprintf(out, SA_PATH_BYTES, "%s/vms/%s.%s", a->cfg->state_dir, g->name, m->name);

	/* its socket's path has the shortest limit: 108 */
	return n > 0 && n < 90 ? 0
			       : lb_err_set(err, LB_EINPUT, 0,
					    "state_dir is too long for machine %s", m->name);
}

int sa_vm_describe(struct sa_agent *a, const struct sa_group_cfg *g, const struct sa_machine_cfg *m,
		   struct sa_vmdesc *out, struct lb_err *err)
{
	char path[2 * SA_NAME_BYTES + 2];

	*out = (struct sa_vmdesc){.ram_bytes = m->vm.ram_bytes,
				  .vcpus = (uint32_t)m->vm.cpus,
				  .direct_kernel = m->vm.kernel[0] != '\0',
				  .disks = m->volumes,
				  .nics = m->vm.nics};
	(void)snprintf(out->name, sizeof(out->name), "%s", m->name);
	(void)snprintf(out->cmdline, sizeof(out->cmdline), "%s", m->vm.cmdline);
	for (size_t i = 0; i < m->volumes && i < VM_DISKS_MAX; i++) {
		(void)snprintf(out->disk[i].name, sizeof(out->disk[i].name), "%s",
			       m->volume[i].name);
		if (!sa_vmdesc_bus(m->volume[i].name, &out->disk[i].bus))
			return lb_err_set(err, LB_EINPUT, 0, "machine %s: disk %s is on no bus",
					  m->name, m->volume[i].name);
	}
	for (size_t i = 0; i < m->vm.nics; i++)
		(void)sa_vmdesc_mac(m->vm.mac[i], out->mac[i]); /* checked by config_vm.c */
	(void)snprintf(path, sizeof(path), "%s/%s", g->name, m->name);
	return sa_idmap_get(a->ids, path, &out->uuid, err);
}

static size_t add_defined(struct sa_agent *a, const char *name, struct sa_vm_place *out, size_t n,
			  size_t cap)
{
	for (size_t i = 0; i < a->cfg->groups; i++) {
		const struct sa_group_cfg *g = &a->cfg->group[i];

		for (size_t k = 0; k < g->machines && n < cap; k++) {
			const struct sa_machine_cfg *m = &g->machine[k];
			struct sa_vm_place *p = &out[n];

			*p = (struct sa_vm_place){.group = g, .machine = m};
			if (strcmp(m->driver, "vmcore") != 0 ||
			    (name != NULL && strcmp(m->name, name) != 0) ||
			    sa_vm_dir(a, g, m, p->dir, NULL) != 0)
				continue;
			memcpy(p->name, m->name, sizeof(p->name));
			n++;
		}
	}
	return n;
}

static size_t add_booted(struct sa_agent *a, const char *name, struct sa_vm_place *out, size_t n,
			 size_t cap)
{
	char path[SA_PATH_BYTES + 16];

	for (const struct sa_run *s = a->runs != NULL ? a->runs->first : NULL; s != NULL;
	     s = s->next)
		for (const struct sa_boot *b = s->boots; b != NULL && n < cap; b = b->next) {
			struct sa_vm_place *p = &out[n];

			if (b->state == SA_BOOT_CLEANED ||
			    (name != NULL && strcmp(b->domain, name) != 0))
				continue;
			(void)snprintf(path, sizeof(path), "%s/vm.json", b->dir);
			if (access(path, F_OK) != 0)
				continue; /* libvirt's */
			*p = (struct sa_vm_place){.group = NULL};
			memcpy(p->name, b->domain, sizeof(p->name));
			memcpy(p->dir, b->dir, sizeof(p->dir));
			memcpy(p->run, b->run, sizeof(p->run));
			n++;
		}
	return n;
}

size_t sa_vms_places(struct sa_agent *a, const char *name, struct sa_vm_place *out, size_t cap)
{
	return add_booted(a, name, out, add_defined(a, name, out, 0, cap), cap);
}

/* ---- as JSON: blocking ---- */

static const char *state_name(enum vm_state s)
{
	switch (s) {
	case VM_CREATED:
		return "created";
	case VM_RUNNING:
		return "running";
	case VM_PAUSED:
		return "paused";
	case VM_OFF:
		return "off";
	case VM_CRASHED:
		return "crashed";
	}
	return "?";
}

static json_t *jail_json(uint32_t jail)
{
	static const char *const parts[] = {"no-new-privs", "uid", "chroot", "landlock", "seccomp"};
	json_t *list = json_array();

	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if ((jail >> i & 1) != 0)
			(void)json_array_append_new(list, json_string(parts[i]));
	return list;
}

static void add_info(json_t *o, const struct vm_ctl_info *i)
{
	char last[sizeof(i->last)];

	memcpy(last, i->last, sizeof(last));
	(void)json_object_set_new(o, "state", json_string(state_name(i->state)));
	(void)json_object_set_new(o, "pid", json_integer(i->pid));
	(void)json_object_set_new(o, "ram_bytes", json_integer((json_int_t)i->ram_bytes));
	(void)json_object_set_new(o, "cpus", json_integer(i->vcpus));
	(void)json_object_set_new(o, "disks", json_integer(i->disks));
	(void)json_object_set_new(o, "nics", json_integer(i->nics));
	(void)json_object_set_new(o, "restored", json_boolean(i->restored));
	(void)json_object_set_new(o, "jail", jail_json(i->jail));
	(void)json_object_set_new(o, "last_event", json_string(lb_utf8_clean(last)));
	(void)json_object_set_new(o, "up_ns",
				  json_integer((json_int_t)(lb_env_real()->now_ns(lb_env_real()) -
							    i->started_boot_ns)));
}

static void add_stats(json_t *o, struct vm_ctl *c)
{
	const struct vm_ctl_msg rq = {.type = VM_CTL_GET_STATS};
	struct vm_ctl_msg m;

	if (vm_ctl_call(c, &rq, VM_CTL_STATS, &m, NULL, NULL) != 0)
		return;
	(void)json_object_set_new(o, "stats",
				  json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "exits",
					    (json_int_t)m.stats.exits, "irqs",
					    (json_int_t)m.stats.irqs, "cuts",
					    (json_int_t)m.stats.cuts, "pause_last_ns",
					    (json_int_t)m.stats.pause_last_ns, "pause_max_ns",
					    (json_int_t)m.stats.pause_max_ns, "dirty_last_pages",
					    (json_int_t)m.stats.dirty_last_pages, "lazy_left_pages",
					    (json_int_t)m.stats.lazy_left_pages, "held_bytes",
					    (json_int_t)m.stats.held_bytes));
}

/* Its processors are on, and stand still at what does not come. */
static void add_starving(json_t *o, const struct sa_vm_place *p, const struct vm_ctl_info *i)
{
	if (!p->starves || i->state != VM_RUNNING)
		return;
	(void)json_object_set_new(o, "state", json_string("starving"));
	(void)json_object_set_new(o, "problem", json_string("its memory does not come any more"));
}

static json_t *place_json(const struct sa_vm_place *p, bool stats)
{
	char socket[SA_PATH_BYTES + 16];
	struct vm_ctl *c = NULL;
	struct lb_err err = {0};
	json_t *o = json_object();
	int rc = sa_vmrun_open(&c, p->dir, &err);

	(void)snprintf(socket, sizeof(socket), "%s/vm.sock", p->dir);
	(void)json_object_set_new(o, "name", json_string(p->name));
	(void)json_object_set_new(o, "kind", json_string(p->machine != NULL ? "machine" : "boot"));
	if (p->group != NULL)
		(void)json_object_set_new(o, "group", json_string(p->group->name));
	else
		(void)json_object_set_new(o, "run", json_string(p->run));
	if (rc == 0) {
		(void)json_object_set_new(o, "socket", json_string(socket));
		add_info(o, vm_ctl_info(c));
		add_starving(o, p, vm_ctl_info(c));
		if (stats)
			add_stats(o, c);
	} else {
		(void)json_object_set_new(o, "state",
					  json_string(rc == LB_ENOTFOUND ? "off" : "unreachable"));
		if (rc != LB_ENOTFOUND)
			(void)json_object_set_new(o, "problem", json_string(err.msg));
	}
	vm_ctl_close(c);
	return o;
}

static void list_work(struct request *q)
{
	json_t *list = json_array();

	for (size_t i = 0; i < q->places; i++)
		(void)json_array_append_new(list, place_json(&q->place[i], false));
	q->answer = json_pack("{s:o}", "vms", list);
}

/* ---- commands: blocking ---- */

static int disk_size(const char *path, uint64_t *out, struct lb_err *err)
{
	const struct img_file_cfg cfg = {.path = path};
	struct img_dev *d = NULL;
	int rc = img_file_create(&d, &cfg, err);

	if (rc == 0)
		*out = d->size_bytes;
	img_dev_destroy(d);
	return rc;
}

static int run_machine(struct request *q, struct lb_err *err)
{
	const struct sa_vm_place *p = &q->place[0];
	const struct sa_vm_cfg *vm = &p->machine->vm;
	struct sa_vmrun_disk disk[VM_DISKS_MAX] = {0};
	uint8_t cpu[VM_CPU_MAX_BYTES];
	const struct sa_network_cfg *net = &vm->network;
	struct sa_vmrun r = {.dir = p->dir,
			     .program = q->program,
			     .desc = &q->desc,
			     .disk = disk,
			     .firmware = q->vms->agent->cfg->hv_firmware, /* never changes */
			     .vga_firmware = q->vms->agent->cfg->hv_vga_firmware,
			     .kernel = vm->kernel[0] != '\0' ? vm->kernel : NULL,
			     .initrd = vm->initrd[0] != '\0' ? vm->initrd : NULL,
			     .netns = net->netns[0] != '\0' ? net->netns : NULL,
			     .bridge = net->bridge[0] != '\0' ? net->bridge : NULL,
			     .commit_bytes =
				     vm->output == SA_OUTPUT_COMMIT ? vm->output_bound_bytes : 0};
	int rc = 0;

	for (size_t i = 0; i < q->desc.disks && rc == 0; i++) {
		disk[i].path = p->machine->volume[i].path;
		disk[i].logged = true;
		rc = disk_size(disk[i].path, &disk[i].size_bytes, err);
	}
	if (rc == 0 && vm->cpu[0] != '\0') {
		rc = sa_vmcpu_of_hosts(cpu, &r.cpu_bytes, vm->cpu, err);
		r.cpu = cpu;
	}
	if (rc == 0 && mkdir(p->dir, 0700) != 0 && errno != EEXIST)
		rc = lb_err_errno(err, errno, "make directory %s", p->dir);
	return rc == 0 ? sa_vmrun_start(&r, err) : rc;
}

static int run(struct request *q, struct lb_err *err)
{
	struct vm_ctl_msg answer;

	if (sa_vmrun_ask(q->place[0].dir, VM_CTL_STATE, 0, VM_CTL_INFO, &answer, NULL) == 0)
		return lb_err_set(err, LB_EBUSY, 0, "it %s: stop it first",
				  answer.info.state == VM_CRASHED ? "has crashed" : "runs already");
	return q->boot != NULL ? sa_boot_restart(q->vms->agent, q->boot, err) : run_machine(q, err);
}

static int simple(const struct sa_vm_place *p, enum vm_ctl_type type, uint64_t n,
		  struct lb_err *err)
{
	struct vm_ctl_msg answer;

	return sa_vmrun_ask(p->dir, type, n, VM_CTL_OK, &answer, err);
}

static int perform(struct request *q)
{
	const struct sa_vm_place *p = &q->place[0];

	switch (q->command) {
	case CMD_RUN:
		return run(q, &q->err);
	case CMD_PAUSE:
		return simple(p, VM_CTL_PAUSE, PAUSE_NS, &q->err);
	case CMD_RESUME:
		return simple(p, VM_CTL_RESUME, 0, &q->err);
	case CMD_RESET:
		return simple(p, VM_CTL_RESET, 0, &q->err);
	case CMD_POWER_BUTTON:
		return simple(p, VM_CTL_POWER_BUTTON, 0, &q->err);
	case CMD_STOP:
		return sa_vmrun_alive(p->dir, NULL)
			       ? sa_vmrun_end(p->dir, &q->err)
			       : lb_err_set(&q->err, LB_ENOTFOUND, 0, "it is off");
	case CMD_LIST:
	case CMD_SHOW:
	case CMD_FENCE:
		break;
	}
	return 0;
}

static void fence_work(struct request *q)
{
	for (size_t i = 0; i < q->places; i++) {
		int rc = sa_vmrun_end(q->place[i].dir, &q->err);

		if (rc == 0)
			continue;
		q->rc = lb_err_wrap(&q->err, rc, "machine %s", q->place[i].name);
		lb_log(LB_LOG_ERROR, "vm", "fence_failed", "vm=%s", q->place[i].name, "err=%s",
		       q->err.msg, NULL);
	}
}

static void work(void *arg)
{
	struct request *q = arg;

	if (q->command == CMD_LIST) {
		list_work(q);
		return;
	}
	if (q->command == CMD_FENCE) {
		fence_work(q);
		return;
	}
	q->rc = perform(q);
	if (q->rc == 0)
		q->answer = place_json(&q->place[0], true);
	else
		(void)lb_err_wrap(&q->err, q->rc, "machine %s", q->place[0].name);
}

/* May machines of @group run here? */
static int check_role(struct sa_agent *a, const struct sa_group_cfg *group, struct lb_err *err)
{
	const struct sa_protected *g = sa_protect_find(a, group->name);
	struct sa_role_record rec;

	if (sa_role_by_name(a->roles, group->name, &rec) && rec.role != SA_ROLE_PRIMARY)
		return lb_err_set(err, LB_EFENCED, 0,
				  "group %s is %s here at epoch %" PRIu64 ": %s", rec.name,
				  sa_role_name(rec.role), rec.epoch, rec.why);
	if (g != NULL && g->fenced) /* and the disk would not take the record */
		return lb_err_set(err, LB_EFENCED, 0, "group %s: %s", g->cfg->name,
				  g->last_err.msg);
	return 0;
}

/* The group may have been fenced while its machine was being started. */
static void check_again(struct request *q)
{
	const struct sa_vm_place *p = &q->place[0];

	if (q->command != CMD_RUN || q->rc != 0 || p->machine == NULL)
		return;
	q->rc = check_role(q->vms->agent, p->group, &q->err);
	if (q->rc != 0)
		sa_vms_fence(q->vms, p->group);
}

/* An alarm as long as one of them does not end. */
static void tell_fence(struct request *q)
{
	struct sa_agent *a = q->vms->agent;

	if (q->rc != 0)
		(void)snprintf(a->alarm, sizeof(a->alarm), FENCE_ALARM "%.200s", q->err.msg);
	else if (strncmp(a->alarm, FENCE_ALARM, strlen(FENCE_ALARM)) == 0)
		a->alarm[0] = '\0';
}

static void done(void *arg)
{
	struct request *q = arg;

	check_again(q);
	if (q->command == CMD_FENCE)
		tell_fence(q);
	if (q->command >= CMD_RUN && q->command != CMD_FENCE)
		lb_log(q->rc == 0 ? LB_LOG_INFO : LB_LOG_WARN, "vm", "command", "vm=%s",
		       q->place[0].name, "command=%s", command_names[q->command], "err=%s",
		       q->rc != 0 ? q->err.msg : NULL, NULL);
	if (q->rq != NULL && q->rc == 0) {
		sa_api_answer(q->rq, q->answer);
		q->answer = NULL;
	} else if (q->rq != NULL) {
		sa_api_fail(q->rq, &q->err, NULL);
	}
	request_free(q);
}

/* ---- handlers ---- */

static struct request *begin(struct call *c, enum command command, const char *name, size_t room)
{
	struct request *q = request_new(c->agent->vms, command, room);

	if (q == NULL) {
		sa_call_fail(c, LB_ENOMEM, "machines");
		return NULL;
	}
	q->places = sa_vms_places(c->agent, name, q->place, room);
	for (size_t i = 0; i < q->places; i++)
		q->place[i].starves = sa_vmwatch_starves(c->agent->vmwatch, q->place[i].dir);
	q->rq = c->rq;
	return q;
}

static void submit(struct request *q)
{
	lb_pool_submit(q->vms->agent->pool, work, done, q);
}

void sa_get_vms(struct call *c)
{
	struct request *q = begin(c, CMD_LIST, NULL, SA_VM_PLACES_MAX);

	if (q != NULL)
		submit(q);
}

/* The one machine the path names; NULL: answered already. */
static struct request *one(struct call *c, enum command command)
{
	struct request *q = begin(c, command, c->api->part[1], SA_VM_PLACES_MAX);

	if (q != NULL && q->places == 0) {
		request_free(q);
		sa_call_fail(c, LB_ENOTFOUND,
			     "no machine of that name runs here or is defined with driver vmcore");
		return NULL;
	}
	return q;
}

void sa_get_vm(struct call *c)
{
	struct request *q = one(c, CMD_SHOW);

	if (q != NULL)
		submit(q);
}

/* What a failover booted belongs to this site as long as its group does. */
static int prepare_restart(struct request *q)
{
	struct sa_agent *a = q->vms->agent;
	const struct sa_vm_place *p = &q->place[0];
	const struct sa_boot *b = NULL;
	struct sa_role_record rec;

	for (const struct sa_run *s = a->runs->first; s != NULL && b == NULL; s = s->next)
		for (b = s->boots; b != NULL && strcmp(b->dir, p->dir) != 0;)
			b = b->next;
	if (b == NULL || b->mode == RB_DRILL)
		return lb_err_set(&q->err, LB_EINPUT, 0,
				  "machine %s was booted by a drill: its run starts it", p->name);
	if (!sa_role_get(a->roles, &b->group, &rec) || rec.role != SA_ROLE_PRIMARY)
		return lb_err_set(&q->err, LB_EFENCED, 0, "machine %s: its group is not %s here",
				  p->name, sa_role_name(SA_ROLE_PRIMARY));
	q->boot = malloc(sizeof(*q->boot));
	if (q->boot == NULL)
		return lb_err_set(&q->err, LB_ENOMEM, 0, "machine %s", p->name);
	*q->boot = *b;
	q->boot->next = NULL;
	return 0;
}

/* What it takes to run it. */
static int prepare_run(struct request *q)
{
	struct sa_agent *a = q->vms->agent;
	const struct sa_vm_place *p = &q->place[0];
	int n;

	if (p->machine == NULL)
		return prepare_restart(q);
	if (check_role(a, p->group, &q->err) != 0)
		return LB_EFENCED;
	n = snprintf(q->program, sizeof(q->program), "%s", a->vm_program);
	if (n <= 0)
		return lb_err_set(&q->err, LB_EUNSUPPORTED, 0, "lifeboat-vm is not installed");
	return sa_vm_describe(a, p->group, p->machine, &q->desc, &q->err);
}

static bool command_of(const char *text, enum command *out)
{
	for (int i = CMD_RUN; i < CMD_FENCE; i++)
		if (text != NULL && strcmp(text, command_names[i]) == 0) {
			*out = (enum command)i;
			return true;
		}
	return false;
}

/* What takes a machine away from its users asks for the typed name of this site. */
static bool confirmed(struct call *c, enum command command)
{
	const char *typed = sa_call_text(c, "confirm");
	struct lb_err err = {0};

	if ((command != CMD_STOP && command != CMD_RESET) ||
	    (typed != NULL && strcmp(typed, c->agent->cfg->site) == 0))
		return true;
	(void)lb_err_set(&err, LB_EDENIED, 0, "%s needs the typed name of this site",
			 command_names[command]);
	sa_api_fail(c->rq, &err, "--confirm SITE, with the name of the site the machine runs at");
	return false;
}

void sa_post_vm_command(struct call *c)
{
	enum command command = CMD_LIST;
	struct request *q;

	if (!command_of(sa_call_text(c, "command"), &command)) {
		sa_call_fail(c, LB_EINPUT,
			     "\"command\": run, pause, resume, stop, reset or power-button");
		return;
	}
	if (!confirmed(c, command))
		return;
	q = one(c, command);
	if (q == NULL)
		return;
	if (command == CMD_RUN)
		q->rc = prepare_run(q);
	if (q->rc == 0) {
		submit(q);
		return;
	}
	sa_api_fail(c->rq, &q->err, NULL);
	request_free(q);
}

static bool is_being_fenced(const struct sa_vms *v, const struct sa_group_cfg *group)
{
	for (const struct request *q = v->first; q != NULL; q = q->next)
		if (q->command == CMD_FENCE && q->place[0].group == group)
			return true;
	return false;
}

void sa_vms_fence(struct sa_vms *v, const struct sa_group_cfg *group)
{
	struct request *q;

	if (v == NULL || is_being_fenced(v, group))
		return;
	q = request_new(v, CMD_FENCE, SA_MACHINES_MAX);
	for (size_t i = 0; q != NULL && i < group->machines; i++) {
		const struct sa_machine_cfg *m = &group->machine[i];
		struct sa_vm_place *p = &q->place[q->places];

		if (strcmp(m->driver, "vmcore") != 0 ||
		    sa_vm_dir(v->agent, group, m, p->dir, NULL) != 0 ||
		    !sa_vmrun_alive(p->dir, NULL))
			continue;
		memcpy(p->name, m->name, sizeof(p->name));
		p->group = group;
		q->places++;
	}
	if (q != NULL && q->places > 0)
		submit(q);
	else if (q != NULL)
		request_free(q);
}
