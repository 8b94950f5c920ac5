#include "siteagent/source.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"
#include "src_int.h"

#define HOLD_DEFAULT_NS  (50u * 1000000ull)
#define SIDE_DEFAULT     (1ull << 30)
#define READY_DEFAULT_NS (600ull * 1000000000u)

const char *sa_source_state_name(enum sa_source_state st)
{
	switch (st) {
	case SA_SRC_IDLE:
		return "idle";
	case SA_SRC_SYNCING:
		return "syncing";
	case SA_SRC_READY:
		return "ready";
	case SA_SRC_LOST:
		return "lost";
	}
	return "?";
}

void sa_source_set_state(struct sa_source *s, enum sa_source_state st)
{
	atomic_store(&s->state, (int)st);
}

enum sa_source_state sa_source_state(const struct sa_source *s)
{
	return (enum sa_source_state)atomic_load(&s->state);
}

void sa_source_cancel(struct sa_source *s)
{
	atomic_store(&s->cancel, true);
}

/* ---- making one ---- */

static bool name_ok(const char *name)
{
	size_t n = strnlen(name, SA_VOLUME_NAME_BYTES);

	return n > 0 && n < SA_VOLUME_NAME_BYTES && name[0] != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		       n;
}

static int check_volumes(const struct sa_source_cfg *cfg, struct lb_err *err)
{
	if (cfg->volume_count > SA_SOURCE_VOLUMES_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "machine %s: %zu volumes, at most %d",
				  cfg->machine, cfg->volume_count, SA_SOURCE_VOLUMES_MAX);
	for (size_t i = 0; i < cfg->volume_count; i++) {
		if (!name_ok(cfg->volumes[i].name))
			return lb_err_set(err, LB_EINPUT, 0,
					  "machine %s: volume %zu has no usable name", cfg->machine,
					  i + 1);
		for (size_t k = 0; k < i; k++)
			if (strcmp(cfg->volumes[i].name, cfg->volumes[k].name) == 0)
				return lb_err_set(err, LB_EINPUT, 0,
						  "machine %s: two volumes are named %s",
						  cfg->machine, cfg->volumes[i].name);
	}
	return 0;
}

static int check_cfg(const struct sa_source_cfg *cfg, struct lb_err *err)
{
	bool libvirt = strcmp(cfg->driver, "libvirt") == 0;
	bool vmcore = strcmp(cfg->driver, "vmcore") == 0;

	if (!libvirt && !vmcore && strcmp(cfg->driver, "block") != 0)
		return lb_err_set(
			err, LB_EINPUT, 0,
			"machine %s: unknown driver \"%.40s\", known: block, libvirt, vmcore",
			cfg->machine, cfg->driver);
	if (vmcore && (cfg->vm == NULL || cfg->work_dir == NULL ||
		       cfg->volume_count + 1 > SA_SOURCE_VOLUMES_MAX))
		return lb_err_set(err, LB_EINPUT, 0,
				  "machine %s: vmcore needs its description and work_dir",
				  cfg->machine);
	if (libvirt && (cfg->uri == NULL || cfg->domain == NULL || cfg->work_dir == NULL ||
			cfg->plugin == NULL))
		return lb_err_set(err, LB_EINPUT, 0,
				  "machine %s: libvirt needs uri, domain, work_dir and plugin",
				  cfg->machine);
	if (!libvirt && cfg->volume_count == 0)
		return lb_err_set(err, LB_EINPUT, 0, "machine %s: %s needs volumes", cfg->machine,
				  cfg->driver);
	for (size_t i = 0; !libvirt && i < cfg->volume_count; i++)
		if (cfg->volumes[i].path == NULL || cfg->volumes[i].path[0] != '/')
			return lb_err_set(err, LB_EINPUT, 0,
					  "machine %s: volume %.64s needs an absolute path",
					  cfg->machine, cfg->volumes[i].name);
	return check_volumes(cfg, err);
}

static bool copy_text(const char **field)
{
	if (*field != NULL)
		*field = strdup(*field);
	return *field != NULL;
}

/* Every string of s->cfg becomes our own; false: out of memory, what was copied is freed by
 * destroy. */
static bool copy_cfg(struct sa_source *s, const struct sa_source_cfg *cfg)
{
	const char *const *from[] = {&cfg->driver, &cfg->machine,  &cfg->uri,
				     &cfg->domain, &cfg->work_dir, &cfg->nbdkit,
				     &cfg->plugin, &cfg->xml_path, &cfg->address};
	const char **to[] = {&s->cfg.driver, &s->cfg.machine,  &s->cfg.uri,
			     &s->cfg.domain, &s->cfg.work_dir, &s->cfg.nbdkit,
			     &s->cfg.plugin, &s->cfg.xml_path, &s->cfg.address};

	s->cfg.frozen = cfg->frozen;
	s->cfg.vm = cfg->vm;
	s->cfg.vm_memory = cfg->vm_memory;
	s->cfg.id = cfg->id;
	s->cfg.side_max_bytes = cfg->side_max_bytes != 0 ? cfg->side_max_bytes : SIDE_DEFAULT;
	s->cfg.ready_timeout_ns =
		cfg->ready_timeout_ns != 0 ? cfg->ready_timeout_ns : READY_DEFAULT_NS;
	for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
		*to[i] = *from[i];
		if (*from[i] != NULL && !copy_text(to[i]))
			return false;
	}
	for (size_t i = 0; i < cfg->volume_count; i++) {
		s->volume[i] = cfg->volumes[i];
		s->volume[i].size_bytes = 0;
		s->volumes = i + 1;
		if (cfg->volumes[i].path != NULL && !copy_text(&s->volume[i].path))
			return false;
	}
	if (cfg->vm_memory) {
		struct sa_source_volume *ram = &s->volume[s->volumes++];

		*ram = (struct sa_source_volume){.name = SA_SOURCE_RAM, .ram = true};
	}
	return true;
}

static void free_source(struct sa_source *s)
{
	const char *text[] = {s->cfg.driver, s->cfg.machine,  s->cfg.uri,
			      s->cfg.domain, s->cfg.work_dir, s->cfg.nbdkit,
			      s->cfg.plugin, s->cfg.xml_path, s->cfg.address};

	for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
		free((void *)text[i]);
	for (size_t i = 0; i < s->volumes; i++)
		free((void *)s->volume[i].path);
	free(s->machine_xml);
	free(s);
}

int sa_source_create(struct sa_source **out, const struct sa_source_cfg *cfg, struct lb_err *err)
{
	struct sa_source *s;
	int rc = check_cfg(cfg, err);

	if (rc != 0)
		return rc;
	if (strcmp(cfg->driver, "vmcore") == 0)
		s = sa_src_vmcore_alloc();
	else
		s = strcmp(cfg->driver, "block") == 0 ? sa_src_block_alloc()
						      : sa_src_libvirt_alloc();
	if (s == NULL || !copy_cfg(s, cfg)) {
		if (s != NULL)
			free_source(s);
		return lb_err_set(err, LB_ENOMEM, 0, "source of machine %s", cfg->machine);
	}
	*out = s;
	return 0;
}

void sa_source_destroy(struct sa_source *s)
{
	if (s == NULL)
		return;
	sa_source_release(s, SA_CUT_ABANDONED, NULL);
	s->ops->destroy(s);
	free_source(s);
}

/* ---- using it ---- */

int sa_source_prepare(struct sa_source *s, struct lb_err *err)
{
	int rc;

	LB_ASSERT(!s->cut_open);
	if (atomic_load(&s->cancel))
		return lb_err_set(err, LB_ECANCELED, 0, "machine %s: stopping", s->cfg.machine);
	rc = s->ops->prepare(s, err);
	return rc != 0 ? lb_err_wrap(err, rc, "machine %s", s->cfg.machine) : 0;
}

size_t sa_source_volume_count(const struct sa_source *s)
{
	return s->volumes;
}

const struct sa_source_volume *sa_source_volume(const struct sa_source *s, size_t vol)
{
	LB_ASSERT(vol < s->volumes);
	return &s->volume[vol];
}

unsigned sa_source_unlisted(const struct sa_source *s)
{
	return atomic_load(&s->unlisted);
}

const char *sa_source_machine_xml(const struct sa_source *s)
{
	return s->machine_xml;
}

static int check_ready(const struct sa_source *s, struct lb_err *err)
{
	if (sa_source_state(s) != SA_SRC_READY)
		return lb_err_set(err, LB_EAGAIN, 0, "its source is %s",
				  sa_source_state_name(sa_source_state(s)));
	return 0;
}

static int cut_alone(struct sa_source *s, uint64_t limit_ns, struct lb_err *err)
{
	int rc = check_ready(s, err);

	if (rc == 0)
		rc = s->ops->alone(s, limit_ns, err);
	s->cut_open = rc == 0;
	return rc != 0 ? lb_err_wrap(err, rc, "machine %s", s->cfg.machine) : 0;
}

static void begin_all(struct sa_source *const *members, size_t count, enum sa_source_step step,
		      uint64_t limit_ns)
{
	for (size_t i = 0; i < count; i++)
		if (members[i]->ops->begin != NULL)
			members[i]->ops->begin(members[i], step, limit_ns);
}

/* The step of one member. What an earlier one's failure made useless is only called where it was
 * begun. */
static int step_one(struct sa_source *s, enum sa_source_step step, uint64_t limit_ns, bool failed,
		    struct lb_err *err)
{
	int rc;

	if (failed && s->ops->begin == NULL)
		return 0;
	rc = step == SA_STEP_HOLD ? s->ops->hold(s, limit_ns, err) : s->ops->mark(s, err);
	if (step == SA_STEP_MARK)
		s->cut_open = rc == 0;
	return rc != 0 ? lb_err_wrap(err, rc, "machine %s", s->cfg.machine) : 0;
}

static int step_all(struct sa_source *const *members, size_t count, enum sa_source_step step,
		    uint64_t limit_ns, struct lb_err *err)
{
	int rc = 0;

	begin_all(members, count, step, limit_ns);
	for (size_t i = 0; i < count; i++) {
		bool failed = rc != 0;
		int one = step_one(members[i], step, limit_ns, failed, failed ? NULL : err);

		rc = failed ? rc : one; /* the first failure is told */
	}
	return rc;
}

static int hold_and_mark(struct sa_source *const *members, size_t count, uint64_t limit_ns,
			 struct lb_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		rc = check_ready(members[i], err);
		if (rc != 0)
			return lb_err_wrap(err, rc, "machine %s", members[i]->cfg.machine);
	}
	rc = step_all(members, count, SA_STEP_HOLD, limit_ns, err);
	return rc == 0 ? step_all(members, count, SA_STEP_MARK, limit_ns, err) : rc;
}

static void resume_all(struct sa_source *const *members, size_t count)
{
	begin_all(members, count, SA_STEP_RESUME, 0);
	for (size_t i = 0; i < count; i++)
		members[i]->ops->resume(members[i]);
}

static int settle(struct sa_source *const *members, size_t count, struct lb_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		struct sa_source *s = members[i];

		if (s->ops->settle != NULL)
			rc = s->ops->settle(s, err);
		if (rc != 0)
			return lb_err_wrap(err, rc, "machine %s", s->cfg.machine);
	}
	return 0;
}

int sa_source_cut(struct sa_cut *out, struct sa_source *const *members, size_t count,
		  uint64_t limit_ns, struct lb_err *err)
{
	struct lb_env *env = lb_env_real();
	struct sa_cut cut = {.consistency = REP_CONSISTENCY_CRASH};
	int rc;

	for (size_t i = 0; i < count; i++)
		LB_ASSERT(!members[i]->cut_open);
	cut.wall_ns = env->wall_ns(env);
	cut.boot_ns = env->now_ns(env);
	limit_ns = limit_ns != 0 ? limit_ns : HOLD_DEFAULT_NS;
	if (count == 1 && members[0]->ops->alone != NULL) {
		rc = cut_alone(members[0], limit_ns, err);
	} else {
		rc = hold_and_mark(members, count, limit_ns, err);
		resume_all(members, count);
	}
	cut.held_ns = env->now_ns(env) - cut.boot_ns;
	if (rc == 0)
		rc = settle(members, count, err);
	for (size_t i = 0; i < count && rc != 0; i++)
		sa_source_release(members[i], SA_CUT_ABANDONED, NULL);
	if (rc == 0)
		*out = cut;
	return rc;
}

int sa_source_dev(struct sa_source *s, size_t vol, struct img_dev **out, struct lb_err *err)
{
	LB_ASSERT(s->cut_open && vol < s->volumes);
	return s->ops->dev(s, vol, out, err);
}

int sa_source_changed(struct sa_source *s, size_t vol, const struct img_extmap **out,
		      struct lb_err *err)
{
	LB_ASSERT(s->cut_open && vol < s->volumes);
	return s->ops->changed(s, vol, out, err);
}

struct lb_hash sa_source_since(const struct sa_source *s, size_t vol)
{
	return s->since[vol];
}

int sa_source_check(struct sa_source *s, struct lb_err *err)
{
	int rc;

	LB_ASSERT(s->cut_open);
	rc = s->ops->check(s, err);
	return rc != 0 ? lb_err_wrap(err, rc, "machine %s", s->cfg.machine) : 0;
}

void sa_source_release(struct sa_source *s, enum sa_cut_fate fate, const struct lb_hash *point)
{
	if (!s->cut_open)
		return;
	s->cut_open = false;
	s->ops->release(s, fate == SA_CUT_KEPT, point);
}
