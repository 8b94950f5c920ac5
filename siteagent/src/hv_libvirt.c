/*
 * The libvirt boot driver.
 *
 *   (nothing) --[prepare: overlays, define]--> OFF --[start: paused, connect NICs, run]--> RUNNING
 * <--> PAUSED
 *        ^------------------------[stop: destroy, undefine]------------------------------------'
 *
 * A connection per call: libvirtd may be restarted in between, and nothing is kept that could be
 * stale. A domain is ours when its console goes into our directory; a foreign one of the same name
 * is never touched.
 *
 * NICs are taps that libvirt makes in its own network namespace. They are moved and plugged while
 * the guest does not run yet, so it never sends a frame anywhere but where it belongs.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "hv_int.h"
#include "lv_int.h"
#include "proc_int.h"

#define TOOL_NS (60ull * 1000000000u)

struct link {
	virConnectPtr conn;
	virDomainPtr dom; /* NULL: there is none of that name */
};

static void close_link(struct link *l)
{
	if (l->dom != NULL)
		(void)virDomainFree(l->dom);
	if (l->conn != NULL)
		(void)virConnectClose(l->conn);
}

static int is_ours(const struct sa_hv_machine *m, virDomainPtr dom, struct lb_err *err)
{
	char *xml = virDomainGetXMLDesc(dom, 0), ours[PATH_MAX], path[PATH_MAX];
	xmlDocPtr doc = NULL;
	int rc = sa_hv_path(m, "serial.log", ours, err);

	if (xml == NULL)
		rc = sa_lv_fail(err, LB_EAGAIN, "description of domain %s", m->name);
	if (rc == 0)
		rc = sa_xml_parse(&doc, xml, "the domain's description", err);
	if (rc == 0) {
		xmlNodePtr devices = sa_xml_child(xmlDocGetRootElement(doc), "devices");
		xmlNodePtr source = sa_xml_child(sa_xml_child(devices, "serial"), "source");

		if (strcmp(sa_xml_attr(source, "path", path, sizeof(path)), ours) != 0)
			rc = lb_err_set(err, LB_EEXIST, 0,
					"another domain is named %s at this hypervisor", m->name);
	}
	if (doc != NULL)
		xmlFreeDoc(doc);
	free(xml);
	return rc;
}

/* l->dom is ours, or NULL when there is none of our name. */
static int open_link(struct link *l, const struct sa_hv_machine *m, struct lb_err *err)
{
	int rc = sa_lv_open(&l->conn, m->hv->uri, err);

	l->dom = NULL;
	if (rc != 0) {
		l->conn = NULL;
		return rc;
	}
	l->dom = virDomainLookupByName(l->conn, m->name);
	if (l->dom != NULL)
		rc = is_ours(m, l->dom, err);
	else if (sa_lv_fail(err, LB_EAGAIN, "domain %s", m->name) != LB_ENOTFOUND)
		rc = LB_EAGAIN;
	if (rc != 0)
		close_link(l);
	return rc;
}

static int state_of(virDomainPtr dom, enum sa_hv_state *out, struct lb_err *err)
{
	int state = VIR_DOMAIN_NOSTATE, reason;

	if (dom == NULL) {
		*out = SA_HV_GONE;
		return 0;
	}
	if (virDomainGetState(dom, &state, &reason, 0) != 0)
		return sa_lv_fail(err, LB_EAGAIN, "state of the domain");
	if (state == VIR_DOMAIN_SHUTOFF || state == VIR_DOMAIN_CRASHED)
		*out = SA_HV_OFF;
	else
		*out = state == VIR_DOMAIN_PAUSED ? SA_HV_PAUSED : SA_HV_RUNNING;
	return 0;
}

/* ---- prepare ---- */

/* The view as qcow2 names it: every key said, so QEMU probes nothing. */
static char *backing_of(const struct sa_hv_disk *d)
{
	json_t *j = json_pack("{s:s, s:{s:s, s:{s:s, s:s}, s:s}}", "driver", "raw", "file",
			      "driver", "nbd", "server", "type", "unix", "path", d->nbd_socket,
			      "export", d->nbd_export != NULL ? d->nbd_export : "");
	char *text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL, *out = NULL;

	json_decref(j);
	if (text != NULL && asprintf(&out, "json:%s", text) < 0)
		out = NULL;
	free(text);
	return out;
}

static int make_overlay(const struct sa_hv_machine *m, size_t i, const struct sa_hv_disk *d,
			struct lb_err *err)
{
	char path[PATH_MAX], log[PATH_MAX], size[24];
	char *backing = backing_of(d);
	const char *argv[] = {"qemu-img", "create", "-q",    "-f", "qcow2", "-F",
			      "raw",      "-b",     backing, path, size,    NULL};
	int rc = sa_hv_overlay(m, i, path, err);

	if (rc == 0)
		rc = sa_hv_path(m, "qemu-img.log", log, err);
	if (rc == 0 && backing == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "overlay of %s", d->name);
	if (rc == 0) {
		(void)snprintf(size, sizeof(size), "%" PRIu64, d->size_bytes);
		(void)unlink(path);
		rc = sa_proc_run(argv, log, TOOL_NS, err);
	}
	free(backing);
	return rc != 0 ? lb_err_wrap(err, rc, "overlay of %s", d->name) : 0;
}

static int remove_domain(virDomainPtr dom, struct lb_err *err)
{
	enum sa_hv_state st = SA_HV_GONE;
	int rc = state_of(dom, &st, err);

	if (rc != 0 || st == SA_HV_GONE)
		return rc;
	/* Right after a start or a reconnect a destroy may report an error though it works: the
	 * state afterwards counts. */
	if (st != SA_HV_OFF && virDomainDestroy(dom) != 0 && virDomainIsActive(dom) == 1)
		return sa_lv_fail(err, LB_EIO, "power off");
	if (virDomainIsPersistent(dom) == 1 &&
	    virDomainUndefineFlags(dom, VIR_DOMAIN_UNDEFINE_MANAGED_SAVE |
						VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
						VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA |
						VIR_DOMAIN_UNDEFINE_NVRAM) != 0)
		return sa_lv_fail(err, LB_EIO, "undefine");
	return 0;
}

/* For people who look into the directory; nothing reads it. */
static void keep_copy(const struct sa_hv_machine *m, const char *xml)
{
	char path[PATH_MAX];
	FILE *f = NULL;

	if (sa_hv_path(m, "domain.xml", path, NULL) == 0)
		f = fopen(path, "we");
	if (f != NULL) {
		(void)fputs(xml, f);
		(void)fclose(f);
	}
}

static int define_domain(struct link *l, struct sa_hv_machine *m, const char *xml,
			 struct lb_err *err)
{
	char serial[PATH_MAX];
	int rc = sa_hv_path(m, "serial.log", serial, err);

	if (rc != 0)
		return rc;
	(void)unlink(serial); /* it is this boot's console */
	keep_copy(m, xml);
	l->dom = virDomainDefineXML(l->conn, xml);
	return l->dom != NULL ? 0 : sa_lv_fail(err, LB_EUNSUPPORTED, "define");
}

static int lv_prepare(struct sa_hv_machine *m, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	struct sa_hv_domain domain = {0};
	struct link l;
	int rc = sa_hv_domain_build(&domain, m, cfg, err);

	if (rc != 0)
		return rc;
	m->nics = domain.nics;
	rc = open_link(&l, m, err);
	if (rc == 0) {
		rc = remove_domain(l.dom, err); /* half-made by a prepare that was cut short */
		if (l.dom != NULL)
			(void)virDomainFree(l.dom);
		l.dom = NULL;
		for (size_t i = 0; i < m->disks && rc == 0; i++)
			rc = make_overlay(m, i, &cfg->disks[i], err);
		if (rc == 0)
			rc = define_domain(&l, m, domain.xml, err);
		close_link(&l);
	}
	free(domain.xml);
	return rc;
}

static int lv_adopt(struct sa_hv_machine *m, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	struct sa_hv_domain domain = {0};
	struct link l;
	int rc = sa_hv_domain_build(&domain, m, cfg, err);

	if (rc != 0)
		return rc;
	m->nics = domain.nics;
	free(domain.xml);
	rc = open_link(&l, m, err);
	if (rc != 0)
		return rc;
	if (l.dom == NULL)
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "no domain %s of ours", m->name);
	close_link(&l);
	return rc;
}

int sa_hv_memory_available(uint64_t *out, struct lb_err *err)
{
	static const char name[] = "MemAvailable:";
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	uint64_t kib = 0;

	if (f == NULL)
		return lb_err_errno(err, errno, "read /proc/meminfo");
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, name, strlen(name)) == 0) {
			kib = strtoull(line + strlen(name), NULL, 10);
			break;
		}
	(void)fclose(f);
	*out = kib * 1024;
	return 0;
}

static int lv_fits(struct sa_hv *hv, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	struct sa_hv_machine m = {.hv = hv, .name = "fits", .dir = "/"};
	struct sa_hv_domain domain = {0};
	virConnectPtr conn = NULL;
	uint64_t available = 0;
	int rc = sa_hv_domain_build(&domain, &m, cfg, err);

	free(domain.xml);
	if (rc == 0)
		rc = sa_hv_memory_available(&available, err);
	if (rc == 0 && domain.memory_bytes > available)
		rc = lb_err_set(err, LB_EUNSUPPORTED, 0,
				"it needs %" PRIu64 " MiB of memory, %" PRIu64 " are available",
				domain.memory_bytes >> 20, available >> 20);
	if (rc == 0)
		rc = sa_lv_open(&conn, hv->uri, err);
	if (conn != NULL)
		(void)virConnectClose(conn);
	return rc != 0 ? lb_err_wrap(err, rc, "machine %s does not fit", cfg->name) : 0;
}

/* ---- running it ---- */

static int run_ip(const struct sa_hv_machine *m, const char *const *argv, struct lb_err *err)
{
	char log[PATH_MAX];
	int rc = sa_hv_path(m, "ip.log", log, err);

	return rc != 0 ? rc : sa_proc_run(argv, log, TOOL_NS, err);
}

static int connect_nic(const struct sa_hv_machine *m, size_t n, struct lb_err *err)
{
	char tap[SA_HV_TAP_BYTES];
	const char *move[] = {"ip", "link", "set", "dev", tap, "netns", m->netns, NULL};
	const char *there[] = {"ip", "-n", m->netns, "link", "show", "dev", tap, NULL};
	const char *plug[] = {"ip", "-n",     m->netns,  "link", "set", "dev",
			      tap,  "master", m->bridge, "up",   NULL};
	const char *up[] = {"ip", "-n", m->netns, "link", "set", "dev", tap, "up", NULL};
	const char *plug_here[] = {"ip",     "link",    "set", "dev", tap,
				   "master", m->bridge, "up",  NULL};
	int rc = 0;

	sa_hv_tap(m, n, tap);
	if (m->netns[0] == '\0')
		return m->bridge[0] != '\0' ? run_ip(m, plug_here, err) : 0;
	if (run_ip(m, there, NULL) != 0)
		rc = run_ip(m, move, err);
	if (rc == 0)
		rc = run_ip(m, m->bridge[0] != '\0' ? plug : up, err);
	return rc != 0 ? lb_err_wrap(err, rc, "connect NIC %zu", n) : 0;
}

static int start_domain(struct sa_hv_machine *m, virDomainPtr dom, struct lb_err *err)
{
	enum sa_hv_state st = SA_HV_GONE;
	int rc = state_of(dom, &st, err);

	if (rc != 0 || st == SA_HV_RUNNING)
		return rc;
	if (st == SA_HV_GONE)
		return lb_err_set(err, LB_ENOTFOUND, 0, "it is not defined any more");
	if (st == SA_HV_OFF && virDomainCreateWithFlags(dom, VIR_DOMAIN_START_PAUSED) != 0)
		return sa_lv_fail(err, LB_EIO, "create");
	for (size_t n = 0; n < m->nics && rc == 0; n++)
		rc = connect_nic(m, n, err);
	if (rc == 0 && virDomainResume(dom) != 0)
		rc = sa_lv_fail(err, LB_EIO, "run");
	if (rc != 0)
		(void)virDomainDestroy(dom);
	return rc;
}

static int lv_start(struct sa_hv_machine *m, struct lb_err *err)
{
	struct link l;
	int rc = open_link(&l, m, err);

	if (rc != 0)
		return rc;
	rc = start_domain(m, l.dom, err);
	close_link(&l);
	return rc;
}

static int pause_or_resume(struct sa_hv_machine *m, bool pause, struct lb_err *err)
{
	struct link l;
	int rc = open_link(&l, m, err);

	if (rc != 0)
		return rc;
	if (l.dom == NULL)
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "it is not defined");
	else if ((pause ? virDomainSuspend(l.dom) : virDomainResume(l.dom)) != 0)
		rc = sa_lv_fail(err, LB_EIO, "ask libvirt");
	close_link(&l);
	return rc;
}

static int lv_pause(struct sa_hv_machine *m, struct lb_err *err)
{
	return pause_or_resume(m, true, err);
}

static int lv_resume(struct sa_hv_machine *m, struct lb_err *err)
{
	return pause_or_resume(m, false, err);
}

static int lv_stop(struct sa_hv_machine *m, struct lb_err *err)
{
	struct link l;
	int rc = open_link(&l, m, err);

	if (rc != 0)
		return rc;
	rc = remove_domain(l.dom, err);
	close_link(&l);
	return rc;
}

static int lv_state(struct sa_hv_machine *m, enum sa_hv_state *out, struct lb_err *err)
{
	struct link l;
	int rc = open_link(&l, m, err);

	if (rc != 0)
		return rc;
	rc = state_of(l.dom, out, err);
	close_link(&l);
	return rc;
}

const struct sa_hv_ops sa_hv_libvirt_ops = {
	.driver = "libvirt",
	.fits = lv_fits,
	.prepare = lv_prepare,
	.adopt = lv_adopt,
	.start = lv_start,
	.pause = lv_pause,
	.resume = lv_resume,
	.stop = lv_stop,
	.state = lv_state,
};
