/*
 * Evidence that a drill's network is a bubble. There is no uplink whose frames could be counted, so
 * the proof is that there is none: nothing that is up in the namespace leads anywhere else. A veth,
 * a moved card, a tunnel or a route through one of them is named and the drill does not boot.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "proc_int.h"
#include "runs_int.h"

#define TOOL_NS (20ull * 1000000000ull)
#define TEXT_MAX \
	(8u << 20) /* of ip(8): 1.3 KiB a tap, and a bubble holds a whole site's machines */

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

static bool is_up(const json_t *link)
{
	size_t i;
	json_t *flag;

	json_array_foreach(json_object_get(link, "flags"), i,
			   flag) if (json_is_string(flag) &&
				     strcmp(json_string_value(flag), "UP") == 0) return true;
	return false;
}

/* Frames in one of our taps come from and go to the process that holds it: the guest's QEMU. */
static bool is_tap(const json_t *link)
{
	return strncmp(text_of(link, "ifname"), "lb", 2) == 0 &&
	       strcmp(text_of(json_object_get(link, "linkinfo"), "info_kind"), "tun") == 0;
}

static bool stays_inside(const json_t *link, const char *bridge)
{
	const char *name = text_of(link, "ifname");
	const char *kind = text_of(json_object_get(link, "linkinfo"), "info_kind");

	return strcmp(text_of(link, "link_type"), "loopback") == 0 || is_tap(link) ||
	       (strcmp(kind, "bridge") == 0 && strcmp(name, bridge) == 0);
}

static int judge_links(const json_t *links, const char *bridge, unsigned *taps, struct lb_err *err)
{
	size_t i;
	json_t *l;

	json_array_foreach(links, i, l)
	{
		if (!is_up(l))
			continue;
		if (!stays_inside(l, bridge))
			return lb_err_set(
				err, LB_EDENIED, 0,
				"the drill network is not isolated: interface %.32s (%.16s) "
				"is up in it",
				text_of(l, "ifname"),
				text_of(json_object_get(l, "linkinfo"), "info_kind"));
		*taps += is_tap(l) ? 1 : 0;
	}
	return 0;
}

/* A route through what stays inside stays inside, unless it names a gateway: that one could forward
 * elsewhere, and nothing in a bubble needs one. */
static int judge_routes(const json_t *routes, const char *bridge, struct lb_err *err)
{
	size_t i;
	json_t *r;

	json_array_foreach(routes, i, r)
	{
		const char *dev = text_of(r, "dev"), *dst = text_of(r, "dst");

		if (json_object_get(r, "gateway") != NULL || strcmp(dst, "default") == 0)
			return lb_err_set(err, LB_EDENIED, 0,
					  "the drill network is not isolated: it has a route to "
					  "%.64s through %.64s",
					  dst, text_of(r, "gateway"));
		if (strcmp(dev, bridge) != 0 && strcmp(dev, "lo") != 0 &&
		    strncmp(dev, "lb", 2) != 0)
			return lb_err_set(err, LB_EDENIED, 0,
					  "the drill network is not isolated: it has a route to "
					  "%.64s by interface %.32s",
					  dst, dev);
	}
	return 0;
}

/* ip(8) prints nothing, or an empty line, for an empty list. */
static json_t *list_of(const char *text)
{
	return text[strspn(text, " \n")] != '\0' ? json_loads(text, 0, NULL) : json_array();
}

int sa_isolation_judge(const char *links, const char *routes, const char *routes6,
		       const char *bridge, char *out, size_t out_bytes, struct lb_err *err)
{
	json_t *l = list_of(links), *r = list_of(routes), *r6 = list_of(routes6);
	unsigned taps = 0;
	int rc = 0;

	if (!json_is_array(l) || !json_is_array(r) || !json_is_array(r6))
		rc = lb_err_set(err, LB_EIO, 0, "output of ip(8) is not JSON");
	if (rc == 0)
		rc = judge_links(l, bridge, &taps, err);
	if (rc == 0)
		rc = judge_routes(r, bridge, err);
	if (rc == 0)
		rc = judge_routes(r6, bridge, err);
	if (rc == 0)
		(void)snprintf(
			out, out_bytes, "only lo, %.32s and %u tap%s are up; no route leads out",
			bridge[0] != '\0' ? bridge : "no bridge", taps, taps == 1 ? "" : "s");
	json_decref(l);
	json_decref(r);
	json_decref(r6);
	return rc;
}

static int run_ip(const struct sa_network_cfg *net, const char *dir, const char *const what[3],
		  char **out, struct lb_err *err)
{
	const char *argv[] = {"ip", "-n", net->netns, "-d", "-j", what[0], what[1], what[2], NULL};
	char log[SA_PATH_BYTES + 16];
	size_t got;
	int rc;

	(void)snprintf(log, sizeof(log), "%s/ip.json", dir);
	rc = sa_proc_run(argv, log, TOOL_NS, err);
	if (rc != 0)
		return rc;
	*out = malloc(TEXT_MAX);
	if (*out == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "output of ip(8)");
	got = sa_read_text(log, *out, TEXT_MAX);
	if (got == TEXT_MAX - 1)
		return lb_err_set(err, LB_EIO, 0, "output of ip(8) is over %u bytes", TEXT_MAX);
	return 0;
}

int sa_isolation_check(const struct sa_network_cfg *net, const char *dir, char *out,
		       size_t out_bytes, struct lb_err *err)
{
	static const char *const what[3][3] = {
		{"link", "show", NULL}, {"route", "show", NULL}, {"-6", "route", "show"}};
	char *text[3] = {NULL, NULL, NULL};
	int rc = 0;

	if (net->netns[0] == '\0' && net->bridge[0] == '\0') {
		(void)snprintf(out, out_bytes, "no network: the machines' NICs are cut off");
		return 0;
	}
	if (net->netns[0] == '\0')
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "isolation is not proven: drill_network has no netns, bridge "
				  "%.64s is this host's",
				  net->bridge);
	for (size_t i = 0; i < 3 && rc == 0; i++)
		rc = run_ip(net, dir, what[i], &text[i], err);
	if (rc == 0)
		rc = sa_isolation_judge(text[0], text[1], text[2], net->bridge, out, out_bytes,
					err);
	for (size_t i = 0; i < 3; i++)
		free(text[i]);
	return rc;
}
