/*
 * The libvirt driver: a running domain of somebody else's libvirtd.
 *
 *   IDLE/LOST --[prepare: domain runs, nbdkit per disk, block copy]--> SYNCING --[mirror ready]-->
 * READY READY --[domain destroyed, job cancelled, nbdkit or libvirtd gone, mirror's disk full]-->
 * LOST
 *
 * Per disk one nbdkit with our journal plugin in WORK_DIR/TARGET/, which is the target of
 *   virDomainBlockCopy(REUSE_EXT | TRANSIENT_JOB | SYNCHRONOUS_WRITES).
 * Losing it in any way ends QEMU's mirror job, never the guest. The plugin ends itself when we do
 * (its control connection closes), so after a crash of the agent nothing is left but a job that
 * failed.
 *
 * A life is the time between two prepare() that armed. In a new life the mirror is new, so the
 * first cuts name no changed blocks (C2) until one was KEPT.
 *
 * Is the mirror really whole at the mark? The plugin knows of every write it got and of its
 * writer's end. The one thing it cannot see is a job that was cancelled a moment before the
 * connection closes: therefore check() asks QEMU, after the mark, whether the job still runs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/thread.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "lv_int.h"
#include "proc_int.h"
#include "replicator/journal.h"
#include "src_int.h"

#define PLUGIN_START_NS  (20ull * 1000000000u)
#define CTL_TIMEOUT_NS   (5ull * 1000000000u)
#define PLUGIN_END_NS    (2ull * 1000000000u)
#define READY_POLL_NS    (50ull * 1000000u)
#define BITMAP_MAX_BYTES (1ull << 31) /* 64 TiB of disk */
#define RUNS_MAX         65536u

struct lv_volume {
	pid_t nbdkit; /* 0: not running */
	struct rep_jctl *ctl;
	struct img_dev *cut; /* export "cut", opened on first use */
	struct img_extmap *changed;
	bool copying; /* a block job of ours may exist */
};

struct lv_source {
	struct sa_source base;
	virConnectPtr conn;
	virDomainPtr dom;
	struct lv_volume vol[SA_SOURCE_VOLUMES_MAX];
	unsigned checks; /* cuts checked */
	bool kept;       /* a cut of this life was kept: the journal's bitmap counts from it */
};

static struct lv_source *lv_of(struct sa_source *s)
{
	return (struct lv_source *)s;
}

static int path_of(const struct sa_source *s, size_t vol, const char *name, char *out, size_t len,
		   struct lb_err *err)
{
	int n = snprintf(out, len, "%s/%s%s%s", s->cfg.work_dir, s->volume[vol].name,
			 name[0] != '\0' ? "/" : "", name);

	if (n < 0 || (size_t)n >= len)
		return lb_err_set(err, LB_EINPUT, 0, "path %s/%s/%s is longer than %zu bytes",
				  s->cfg.work_dir, s->volume[vol].name, name, len - 1);
	return 0;
}

/* ---- taking down ---- */

static void disarm_volume(struct lv_source *l, size_t i)
{
	struct lv_volume *v = &l->vol[i];
	struct rep_journal_status st;

	/* A job is cancelled in good order only while its target answers. */
	if (v->nbdkit > 0 && v->ctl != NULL && rep_jctl_status(v->ctl, &st, NULL) != 0) {
		sa_proc_end(v->nbdkit, 0);
		v->nbdkit = 0;
	}
	if (v->copying && l->dom != NULL)
		(void)virDomainBlockJobAbort(l->dom, l->base.volume[i].name, 0);
	img_dev_destroy(v->cut);
	img_extmap_destroy(v->changed);
	rep_jctl_close(v->ctl); /* which ends the plugin */
	if (v->nbdkit > 0)
		sa_proc_end(v->nbdkit, PLUGIN_END_NS);
	memset(v, 0, sizeof *v);
}

static void disarm(struct sa_source *s)
{
	struct lv_source *l = lv_of(s);

	for (size_t i = 0; i < SA_SOURCE_VOLUMES_MAX; i++)
		disarm_volume(l, i);
	if (l->dom != NULL)
		(void)virDomainFree(l->dom);
	if (l->conn != NULL)
		(void)virConnectClose(l->conn);
	l->dom = NULL;
	l->conn = NULL;
	l->kept = false;
}

/* ---- the domain ---- */

static int open_domain(struct lv_source *l, struct lb_err *err)
{
	struct sa_source *s = &l->base;
	int rc = sa_lv_open(&l->conn, s->cfg.uri, err);

	if (rc != 0)
		return rc;
	l->dom = virDomainLookupByName(l->conn, s->cfg.domain);
	if (l->dom == NULL)
		return sa_lv_fail(err, LB_EAGAIN, "domain %s at %s", s->cfg.domain, s->cfg.uri);
	if (virDomainIsActive(l->dom) != 1)
		return lb_err_set(err, LB_EAGAIN, 0, "domain %s at %s is not running",
				  s->cfg.domain, s->cfg.uri);
	return 0;
}

/* A transient domain has no inactive description: its live one serves. */
static int read_description(struct lv_source *l, struct lb_err *err)
{
	char *xml = virDomainGetXMLDesc(l->dom, VIR_DOMAIN_XML_INACTIVE);

	if (xml == NULL)
		return sa_lv_fail(err, LB_EAGAIN, "description of domain %s", l->base.cfg.domain);
	free(l->base.machine_xml);
	l->base.machine_xml = xml;
	return 0;
}

static xmlNodePtr first_disk(xmlDocPtr doc)
{
	return sa_xml_child(sa_xml_child(xmlDocGetRootElement(doc), "devices"), "disk");
}

static xmlNodePtr find_disk(xmlDocPtr doc, const char *target)
{
	char dev[SA_VOLUME_NAME_BYTES];
	xmlNodePtr d;

	for (d = first_disk(doc); d != NULL; d = sa_xml_next(d))
		if (strcmp(sa_xml_attr(sa_xml_child(d, "target"), "dev", dev, sizeof dev),
			   target) == 0)
			return d;
	return NULL;
}

static bool is_plain_disk(xmlNodePtr d)
{
	char type[16], device[16];

	(void)sa_xml_attr(d, "type", type, sizeof type);
	(void)sa_xml_attr(d, "device", device, sizeof device);
	return (strcmp(type, "file") == 0 || strcmp(type, "block") == 0) &&
	       (device[0] == '\0' || strcmp(device, "disk") == 0) &&
	       sa_xml_child(d, "readonly") == NULL;
}

static int list_disks(struct sa_source *s, xmlDocPtr doc, struct lb_err *err)
{
	for (xmlNodePtr d = first_disk(doc); d != NULL; d = sa_xml_next(d)) {
		struct sa_source_volume *v;

		if (!is_plain_disk(d))
			continue;
		if (s->volumes == SA_SOURCE_VOLUMES_MAX) {
			s->volumes = 0; /* the next try must not take these for all of them */
			return lb_err_set(err, LB_EUNSUPPORTED, 0,
					  "domain %s has more than %d disks: name those to protect",
					  s->cfg.domain, SA_SOURCE_VOLUMES_MAX);
		}
		v = &s->volume[s->volumes];
		(void)sa_xml_attr(sa_xml_child(d, "target"), "dev", v->name, sizeof v->name);
		if (v->name[0] != '\0' && strchr(v->name, '/') == NULL)
			s->volumes++;
	}
	if (s->volumes == 0)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "domain %s has no disk to protect",
				  s->cfg.domain);
	return 0;
}

/* Disks that could be protected and are not among those that are. */
static unsigned count_unlisted(const struct sa_source *s, xmlDocPtr doc)
{
	char dev[SA_VOLUME_NAME_BYTES];
	unsigned n = 0;

	for (xmlNodePtr d = first_disk(doc); d != NULL; d = sa_xml_next(d)) {
		bool listed = false;

		(void)sa_xml_attr(sa_xml_child(d, "target"), "dev", dev, sizeof dev);
		for (size_t i = 0; i < s->volumes; i++)
			listed = listed || strcmp(s->volume[i].name, dev) == 0;
		n += is_plain_disk(d) && !listed ? 1 : 0;
	}
	return n;
}

/* Fill in which disks there are, and how large. The list is made once: volumes keep their order for
 * life. */
static int find_volumes(struct lv_source *l, struct lb_err *err)
{
	struct sa_source *s = &l->base;
	char *xml = virDomainGetXMLDesc(l->dom, 0);
	xmlDocPtr doc = NULL;
	int rc;

	if (xml == NULL)
		return sa_lv_fail(err, LB_EAGAIN, "description of domain %s", s->cfg.domain);
	rc = sa_xml_parse(&doc, xml, "the domain's description", err);
	if (rc == 0 && s->volumes == 0)
		rc = list_disks(s, doc, err);
	if (rc == 0)
		atomic_store(&s->unlisted, count_unlisted(s, doc));
	for (size_t i = 0; i < s->volumes && rc == 0; i++) {
		virDomainBlockInfo info;

		if (find_disk(doc, s->volume[i].name) == NULL)
			rc = lb_err_set(err, LB_ENOTFOUND, 0, "domain %s has no disk %s",
					s->cfg.domain, s->volume[i].name);
		else if (virDomainGetBlockInfo(l->dom, s->volume[i].name, &info, 0) != 0)
			rc = sa_lv_fail(err, LB_EAGAIN, "size of disk %s", s->volume[i].name);
		else
			s->volume[i].size_bytes = info.capacity;
	}
	if (doc != NULL)
		xmlFreeDoc(doc);
	free(xml);
	return rc;
}

/* ---- the plugin ---- */

static int make_dir(const char *path, struct lb_err *err)
{
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return lb_err_errno(err, errno, "make directory %s", path);
	return 0;
}

static int start_plugin(struct lv_source *l, size_t i, struct lb_err *err)
{
	const struct sa_source *s = &l->base;
	char nbd[108], log[4096], dir[4096], size[48], side[48];
	const char *argv[] = {s->cfg.nbdkit != NULL ? s->cfg.nbdkit : "nbdkit",
			      "-f",
			      "-U",
			      nbd,
			      s->cfg.plugin,
			      dir,
			      size,
			      side,
			      NULL};
	int rc = path_of(s, i, "nbd", nbd, sizeof nbd, err);

	if (rc == 0)
		rc = path_of(s, i, "nbdkit.log", log, sizeof log, err);
	if (rc != 0)
		return rc;
	(void)snprintf(dir, sizeof dir, "dir=");
	rc = path_of(s, i, "", dir + 4, sizeof dir - 4, err);
	if (rc == 0)
		rc = make_dir(s->cfg.work_dir, err);
	if (rc == 0)
		rc = make_dir(dir + 4, err);
	if (rc != 0)
		return rc;
	(void)snprintf(size, sizeof size, "size=%" PRIu64, s->volume[i].size_bytes);
	(void)snprintf(side, sizeof side, "side-max=%" PRIu64, s->cfg.side_max_bytes);
	(void)remove(nbd);
	return sa_proc_start(&l->vol[i].nbdkit, argv, log, err);
}

/* Why something ended, as far as nbdkit knows it. */
static const char *said_last(const struct sa_source *s, size_t i, char *said, size_t len)
{
	char log[4096];

	said[0] = '\0';
	if (path_of(s, i, "nbdkit.log", log, sizeof(log), NULL) == 0)
		(void)sa_proc_last_line(log, said, len);
	if (said[0] == '\0')
		(void)snprintf(said, len, "no message from nbdkit");
	return said;
}

/* The plugin's control socket comes first, nbdkit's own after it. */
static int connect_plugin(struct lv_source *l, size_t i, struct lb_err *err)
{
	struct lv_volume *v = &l->vol[i];
	uint64_t until = lb_monotonic_ns() + PLUGIN_START_NS;
	char ctl[108], nbd[108], said[200];
	struct stat st;
	int rc = path_of(&l->base, i, "ctl", ctl, sizeof ctl, err);

	if (rc == 0)
		rc = path_of(&l->base, i, "nbd", nbd, sizeof nbd, err);
	if (rc != 0)
		return rc;
	while (stat(nbd, &st) != 0) {
		if (!sa_proc_alive(v->nbdkit)) {
			v->nbdkit = 0;
			return lb_err_set(err, LB_EIO, 0, "nbdkit ended at once: %.160s",
					  said_last(&l->base, i, said, sizeof(said)));
		}
		if (lb_monotonic_ns() > until)
			return lb_err_set(err, LB_ETIMEDOUT, 0, "nbdkit made no socket %s", nbd);
		sa_nap(READY_POLL_NS / 5);
	}
	return rep_jctl_connect(&v->ctl, ctl, CTL_TIMEOUT_NS, err);
}

/* ---- the mirror ---- */

static int start_copy(struct lv_source *l, size_t i, struct lb_err *err)
{
	const char *target = l->base.volume[i].name;
	char nbd[108], xml[1024];
	virTypedParameterPtr params = NULL;
	virDomainBlockJobInfo job;
	xmlChar *escaped;
	int count = 0, max = 0, rc = path_of(&l->base, i, "nbd", nbd, sizeof nbd, err);

	if (rc != 0)
		return rc;
	if (virDomainGetBlockJobInfo(l->dom, target, &job, 0) == 1) {
		if (job.type != VIR_DOMAIN_BLOCK_JOB_TYPE_COPY)
			return lb_err_set(err, LB_EBUSY, 0,
					  "disk %s has another block job (type %d)", target,
					  job.type);
		(void)virDomainBlockJobAbort(l->dom, target, 0); /* ours, of an earlier life */
	}
	escaped = xmlEncodeSpecialChars(NULL, (const xmlChar *)nbd);
	if (escaped == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "block copy of %s", target);
	(void)snprintf(xml, sizeof xml,
		       "<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
		       "<source protocol='nbd' name=''><host transport='unix' socket='%s'/>"
		       "</source></disk>",
		       (const char *)escaped);
	xmlFree(escaped);
	if (virTypedParamsAddUInt(&params, &count, &max, VIR_DOMAIN_BLOCK_COPY_GRANULARITY,
				  SA_SOURCE_BLOCK_BYTES) != 0 ||
	    virDomainBlockCopy(l->dom, target, xml, params, count,
			       VIR_DOMAIN_BLOCK_COPY_REUSE_EXT |
				       VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB |
				       VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES) != 0)
		rc = sa_lv_fail(err, LB_EAGAIN, "mirror disk %s", target);
	else
		l->vol[i].copying = true;
	virTypedParamsFree(params, count);
	return rc;
}

static int mirror_ended(struct lv_source *l, size_t i, struct lb_err *err)
{
	const struct sa_source *s = &l->base;
	struct rep_journal_status st;
	char said[200];

	if (rep_jctl_status(l->vol[i].ctl, &st, NULL) == 0 && st.lost_code == LB_ENOSPC)
		return lb_err_set(err, LB_ENOSPC, 0, "mirror of disk %s: no space left in %s",
				  s->volume[i].name, s->cfg.work_dir);
	return lb_err_set(err, LB_EAGAIN, 0, "the mirror of disk %s ended: %.160s",
			  s->volume[i].name, said_last(s, i, said, sizeof(said)));
}

/* 1: in sync, 0: not yet. */
static int mirror_ready(struct lv_source *l, struct lb_err *err)
{
	char *xml = virDomainGetXMLDesc(l->dom, 0);
	xmlDocPtr doc = NULL;
	int rc, ready = 1;

	if (xml == NULL)
		return sa_lv_fail(err, LB_EAGAIN, "description of domain %s", l->base.cfg.domain);
	rc = sa_xml_parse(&doc, xml, "the domain's description", err);
	free(xml);
	for (size_t i = 0; i < l->base.volumes && rc == 0; i++) {
		const char *target = l->base.volume[i].name;
		xmlNodePtr m = sa_xml_child(find_disk(doc, target), "mirror");
		char text[8];

		if (m == NULL)
			rc = mirror_ended(l, i, err);
		else if (strcmp(sa_xml_attr(m, "ready", text, sizeof text), "yes") != 0)
			ready = 0;
	}
	if (doc != NULL)
		xmlFreeDoc(doc);
	return rc != 0 ? rc : ready;
}

static int wait_ready(struct lv_source *l, struct lb_err *err)
{
	uint64_t until = lb_monotonic_ns() + l->base.cfg.ready_timeout_ns;
	int rc;

	while ((rc = mirror_ready(l, err)) == 0) {
		if (atomic_load(&l->base.cancel))
			return lb_err_set(err, LB_ECANCELED, 0, "stopping");
		if (lb_monotonic_ns() > until)
			return lb_err_set(err, LB_ETIMEDOUT, 0,
					  "the mirror is not in sync after %" PRIu64 " s",
					  l->base.cfg.ready_timeout_ns / 1000000000u);
		sa_nap(READY_POLL_NS);
	}
	return rc < 0 ? rc : 0;
}

static int arm(struct lv_source *l, struct lb_err *err)
{
	int rc = open_domain(l, err);

	if (rc == 0)
		rc = read_description(l, err);
	if (rc == 0)
		rc = find_volumes(l, err);
	for (size_t i = 0; i < l->base.volumes && rc == 0; i++) {
		rc = start_plugin(l, i, err);
		if (rc == 0)
			rc = connect_plugin(l, i, err);
		if (rc == 0)
			rc = start_copy(l, i, err);
	}
	return rc != 0 ? rc : wait_ready(l, err);
}

/* What a plugin says when it or its mirror is no more; other errors leave the source READY. A
 * plugin that is silent may be keeping the guest's writes waiting: it is ended at once, so that
 * QEMU gives its mirror up (C4). */
static int note_loss(struct sa_source *s, size_t i, int rc, struct lb_err *err)
{
	struct lv_volume *v = &lv_of(s)->vol[i];

	if (rc == LB_ECLOSED || rc == LB_EPROTO) {
		sa_source_set_state(s, SA_SRC_LOST);
		if (v->nbdkit > 0)
			sa_proc_end(v->nbdkit, 0);
		v->nbdkit = 0;
	}
	return lb_err_wrap(err, rc == LB_EPROTO ? LB_ECLOSED : rc, "disk %s", s->volume[i].name);
}

/* Is every mirror still fed? Cheap: one question to each plugin and one to QEMU per disk. */
static int still_mirrored(struct lv_source *l, struct lb_err *err)
{
	for (size_t i = 0; i < l->base.volumes; i++) {
		const char *target = l->base.volume[i].name;
		struct rep_journal_status st;
		virDomainBlockJobInfo job;
		int rc = rep_jctl_status(l->vol[i].ctl, &st, err);

		if (rc != 0)
			return note_loss(&l->base, i, rc, err);
		if (st.lost)
			rc = lb_err_set(err, LB_ECLOSED, 0, "the writer left");
		if (rc == 0 && virDomainGetBlockJobInfo(l->dom, target, &job, 0) != 1)
			rc = lb_err_set(err, LB_ECLOSED, 0, "QEMU's copy job is gone");
		if (rc != 0) {
			sa_source_set_state(&l->base, SA_SRC_LOST);
			return lb_err_wrap(err, rc, "mirror of disk %s", target);
		}
	}
	return 0;
}

static int lv_prepare(struct sa_source *s, struct lb_err *err)
{
	struct lv_source *l = lv_of(s);
	int rc;

	if (sa_source_state(s) == SA_SRC_READY && still_mirrored(l, NULL) == 0)
		return 0;
	disarm(s);
	sa_source_set_state(s, SA_SRC_SYNCING);
	rc = arm(l, err);
	if (rc != 0)
		disarm(s);
	sa_source_set_state(s, rc == 0 ? SA_SRC_READY : SA_SRC_LOST);
	return rc;
}

/* ---- cuts ---- */

static int lv_hold(struct sa_source *s, uint64_t limit_ns, struct lb_err *err)
{
	for (size_t i = 0; i < s->volumes; i++) {
		int rc = rep_jctl_hold(lv_of(s)->vol[i].ctl, limit_ns, err);

		if (rc != 0)
			return note_loss(s, i, rc, err);
	}
	return 0;
}

static void lv_release(struct sa_source *s, bool kept, const struct lb_hash *point);

static int lv_mark(struct sa_source *s, struct lb_err *err)
{
	for (size_t i = 0; i < s->volumes; i++) {
		uint64_t dirty;
		int rc = rep_jctl_mark(lv_of(s)->vol[i].ctl, &dirty, err);

		if (rc != 0) {
			if (i > 0)
				lv_release(s, false, NULL);
			return note_loss(s, i, rc, err);
		}
	}
	return 0;
}

static void lv_resume(struct sa_source *s)
{
	/* What does not get through is resumed by the hold's own limit. */
	for (size_t i = 0; i < s->volumes; i++)
		if (lv_of(s)->vol[i].ctl != NULL)
			(void)rep_jctl_resume(lv_of(s)->vol[i].ctl, NULL);
}

/* @path as it may stand in an URI's query. */
static void uri_escape(char *out, size_t len, const char *path)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789._-/";
	size_t n = 0;

	for (; *path != '\0' && n + 4 < len; path++) {
		if (strchr(plain, *path) != NULL)
			out[n++] = *path;
		else
			n += (size_t)snprintf(out + n, len - n, "%%%02X",
					      (unsigned)(unsigned char)*path);
	}
	out[n] = '\0';
}

static int lv_dev(struct sa_source *s, size_t vol, struct img_dev **out, struct lb_err *err)
{
	struct lv_volume *v = &lv_of(s)->vol[vol];
	char nbd[108], escaped[3 * sizeof nbd + 1], uri[sizeof escaped + 40];
	int rc = 0;

	if (v->cut == NULL) {
		rc = path_of(s, vol, "nbd", nbd, sizeof nbd, err);
		if (rc != 0)
			return rc;
		uri_escape(escaped, sizeof escaped, nbd);
		(void)snprintf(uri, sizeof uri, "nbd+unix:///cut?socket=%s", escaped);
		rc = img_nbd_create(&v->cut, uri, 2, err);
	}
	if (rc == 0)
		*out = v->cut;
	return rc;
}

static bool bit_get(const uint8_t *map, uint64_t n)
{
	return (map[n / 8] >> (n % 8) & 1) != 0;
}

/* The set bits as runs; runs nearer than @gap blocks are joined (a superset, see changed()). */
static int runs_of(struct img_extmap *m, const uint8_t *map, uint64_t blocks, uint64_t gap,
		   struct lb_err *err)
{
	uint64_t b = 0;

	while (b < blocks) {
		uint64_t start, end, next;

		if (map[b / 8] == 0 && b % 8 == 0) {
			b += 8;
			continue;
		}
		if (!bit_get(map, b)) {
			b++;
			continue;
		}
		start = b;
		end = next = b + 1;
		while (next < blocks && next - end < gap) {
			if (bit_get(map, next))
				end = next + 1;
			next++;
		}
		int rc = img_extmap_insert(m, start, end - start, 0, err);

		if (rc != 0)
			return rc;
		b = next;
	}
	return 0;
}

static int build_runs(struct img_extmap **out, const uint8_t *map, uint64_t blocks,
		      struct lb_err *err)
{
	int rc = img_extmap_create(out, false, RUNS_MAX, err);

	for (uint64_t gap = 1; rc == 0; gap *= 8) {
		img_extmap_clear(*out);
		rc = runs_of(*out, map, blocks, gap, err);
		if (rc != LB_ENOMEM || gap > blocks)
			break;
		rc = 0; /* too scattered for the map: coarser */
	}
	return rc;
}

static int lv_changed(struct sa_source *s, size_t vol, const struct img_extmap **out,
		      struct lb_err *err)
{
	struct lv_volume *v = &lv_of(s)->vol[vol];
	uint64_t blocks =
		(s->volume[vol].size_bytes + SA_SOURCE_BLOCK_BYTES - 1) / SA_SOURCE_BLOCK_BYTES;
	uint64_t bytes = 0;
	uint8_t *map = NULL;
	int rc;

	*out = NULL;
	if (!lv_of(s)->kept)
		return 0;
	rc = rep_jctl_bitmap(v->ctl, &map, &bytes, BITMAP_MAX_BYTES, err);
	if (rc != 0)
		return note_loss(s, vol, rc, err);
	if (bytes != (blocks + 7) / 8) {
		rc = lb_err_set(err, LB_EPROTO, 0,
				"bitmap of %" PRIu64 " bytes for %" PRIu64 " blocks", bytes,
				blocks);
	} else {
		img_extmap_destroy(v->changed);
		v->changed = NULL;
		rc = build_runs(&v->changed, map, blocks, err);
	}
	free(map);
	if (rc == 0)
		*out = v->changed;
	return rc;
}

/* A disk that was attached while the mirrors run. Not at every cut: the description is long. */
static void look_for_disks(struct lv_source *l)
{
	char *xml = l->checks++ % 64 == 63 ? virDomainGetXMLDesc(l->dom, 0) : NULL;
	xmlDocPtr doc = NULL;

	if (xml != NULL && sa_xml_parse(&doc, xml, "the domain's description", NULL) == 0) {
		atomic_store(&l->base.unlisted, count_unlisted(&l->base, doc));
		xmlFreeDoc(doc);
	}
	free(xml);
}

static int lv_check(struct sa_source *s, struct lb_err *err)
{
	struct lv_source *l = lv_of(s);
	int rc;

	look_for_disks(l);
	for (size_t i = 0; i < s->volumes; i++) {
		struct rep_journal_status st;

		rc = rep_jctl_status(l->vol[i].ctl, &st, err);
		if (rc != 0)
			return note_loss(s, i, rc, err);
		if (st.cut_broken || !st.cut_open)
			return lb_err_set(err, LB_ECHANGED, 0,
					  "disk %s: the guest overwrote more than %" PRIu64
					  " bytes while the cut was open",
					  s->volume[i].name, s->cfg.side_max_bytes);
	}
	rc = still_mirrored(l, err);
	return rc == 0 ? 0 : lb_err_wrap(err, LB_ECHANGED, "is the cut whole");
}

static void lv_release(struct sa_source *s, bool kept, const struct lb_hash *point)
{
	struct lv_source *l = lv_of(s);
	bool told = true;

	(void)point; /* the journal's helper is ours and ends with us */
	for (size_t i = 0; i < s->volumes; i++)
		if (l->vol[i].ctl == NULL || rep_jctl_release(l->vol[i].ctl, kept, NULL) != 0)
			told = false;
	if (!told)
		sa_source_set_state(s, SA_SRC_LOST);
	else if (kept)
		l->kept = true;
}

static const struct sa_source_ops libvirt_ops = {
	.driver = "libvirt",
	.prepare = lv_prepare,
	.hold = lv_hold,
	.mark = lv_mark,
	.resume = lv_resume,
	.dev = lv_dev,
	.changed = lv_changed,
	.check = lv_check,
	.release = lv_release,
	.destroy = disarm,
};

struct sa_source *sa_src_libvirt_alloc(void)
{
	struct lv_source *l = calloc(1, sizeof *l);

	if (l == NULL)
		return NULL;
	l->base.ops = &libvirt_ops;
	return &l->base;
}
