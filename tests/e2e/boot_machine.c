/*
 * tests/e2e/boot_machine.c - drives the libvirt boot driver by commands on stdin, for
 * tests/e2e/boot.sh.
 *
 *   boot_machine URI NAME XML_FILE DIR NETNS BRIDGE KERNEL INITRD [DISK SOCKET SIZE]...
 *
 *   fits prepare adopt start pause resume state console stop remove
 *   serial TEXT | tcp HOST PORT [TEXT] | heartbeat      probes, at most PROBE_S seconds each
 * Each answers with one line: "ok ..." or "err LB_NAME message".
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "siteagent/hv.h"

enum {
	PROBE_S = 200,
	DISKS_MAX = 4,
	XML_BYTES = 1024 * 1024
};

struct ctx {
	struct sa_hv *hv;
	struct sa_hv_machine *m;
	struct sa_hv_boot_cfg cfg;
};

static int probe(struct ctx *c, const char *line, struct lb_err *err)
{
	struct sa_probe p = {.timeout_ns = PROBE_S * 1000000000ull};
	char host[64], text[64], seen[200];
	unsigned port = 0;
	int n = sscanf(line, "tcp %63s %u %63s", host, &port, text);
	int rc;

	if (strncmp(line, "serial ", 7) == 0) {
		p.kind = SA_PROBE_SERIAL;
		p.text = line + 7;
	} else if (n >= 2) {
		p.kind = SA_PROBE_TCP;
		p.host = host;
		p.port = (uint16_t)port;
		p.text = n == 3 ? text : NULL;
	} else if (strcmp(line, "heartbeat") == 0) {
		p.kind = SA_PROBE_HEARTBEAT;
	} else {
		return lb_err_set(err, LB_EINPUT, 0, "unknown command %s", line);
	}
	rc = sa_hv_probe(c->m, &p, seen, sizeof(seen), NULL, err);
	if (rc == 0)
		printf("ok %s\n", seen);
	return rc;
}

static int show_state(struct ctx *c, struct lb_err *err)
{
	static const char *const names[] = {"off", "running", "paused", "gone"};
	enum sa_hv_state st;
	int rc = sa_hv_state(c->m, &st, err);

	if (rc == 0)
		printf("ok %s\n", names[st]);
	return rc;
}

static int show_console(struct ctx *c, struct lb_err *err)
{
	char text[65537];
	size_t got = 0;
	int rc = sa_hv_console(c->m, text, sizeof(text) - 1, &got, err);

	text[got] = '\0';
	if (rc == 0)
		printf("ok %zu\n", got);
	return rc;
}

static int handle_command(struct ctx *c, const char *line, struct lb_err *err)
{
	if (strcmp(line, "fits") == 0)
		return sa_hv_fits(c->hv, &c->cfg, err);
	sa_hv_machine_destroy(c->m);
	c->m = NULL;
	if (strcmp(line, "prepare") == 0)
		return sa_hv_prepare(c->hv, &c->m, &c->cfg, err);
	return sa_hv_adopt(c->hv, &c->m, &c->cfg, err);
}

static int command(struct ctx *c, const char *line, struct lb_err *err)
{
	static const struct {
		const char *name;
		int (*fn)(struct sa_hv_machine *m, struct lb_err *err);
	} simple[] = {{"start", sa_hv_start}, {"pause", sa_hv_pause}, {"resume", sa_hv_resume}};
	int rc;

	if (strcmp(line, "fits") == 0 || strcmp(line, "prepare") == 0 || strcmp(line, "adopt") == 0)
		rc = handle_command(c, line, err);
	else if (c->m == NULL)
		return lb_err_set(err, LB_EINPUT, 0, "no machine yet");
	else if (strcmp(line, "state") == 0)
		return show_state(c, err);
	else if (strcmp(line, "console") == 0)
		return show_console(c, err);
	else if (strcmp(line, "stop") == 0 || strcmp(line, "remove") == 0)
		rc = sa_hv_stop(c->m, line[0] == 'r', err);
	else {
		for (size_t i = 0; i < sizeof(simple) / sizeof(simple[0]); i++)
			if (strcmp(line, simple[i].name) == 0) {
				rc = simple[i].fn(c->m, err);
				if (rc == 0)
					printf("ok\n");
				return rc;
			}
		return probe(c, line, err);
	}
	if (rc == 0)
		printf("ok\n");
	return rc;
}

static char *read_xml(const char *path)
{
	char *text = calloc(1, XML_BYTES + 1);
	FILE *f = fopen(path, "re");

	if (text == NULL || f == NULL || fread(text, 1, XML_BYTES, f) == 0) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(2);
	}
	(void)fclose(f);
	return text;
}

int main(int argc, char **argv)
{
	struct sa_hv_cfg hv = {.driver = "libvirt"};
	struct sa_hv_disk disk[DISKS_MAX] = {{.nbd_export = ""}};
	size_t disks = argc > 9 ? (size_t)(argc - 9) / 3 : 0;
	struct ctx c = {0};
	struct lb_err err = {0};
	char line[128], *xml;

	if (disks == 0 || disks > DISKS_MAX || argc != 9 + 3 * (int)disks)
		return 2;
	hv.uri = argv[1];
	hv.kernel = argv[7];
	hv.initrd = argv[8];
	for (size_t i = 0; i < disks; i++)
		disk[i] = (struct sa_hv_disk){
			.nbd_export = "",
			.name = argv[9 + 3 * i],
			.nbd_socket = argv[10 + 3 * i],
			.size_bytes = strtoull(argv[11 + 3 * i], NULL, 10),
		};
	xml = read_xml(argv[3]);
	c.cfg = (struct sa_hv_boot_cfg){.name = argv[2],
					.machine_xml = xml,
					.disks = disk,
					.disk_count = disks,
					.dir = argv[4],
					.netns = argv[5][0] != '\0' ? argv[5] : NULL,
					.bridge = argv[6][0] != '\0' ? argv[6] : NULL};
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (sa_hv_create(&c.hv, &hv, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 2;
	}
	while (fgets(line, sizeof(line), stdin) != NULL) {
		int rc;

		line[strcspn(line, "\n")] = '\0';
		rc = command(&c, line, &err);
		if (rc != 0)
			printf("err %s %s\n", lb_err_name(rc), err.msg);
	}
	sa_hv_machine_destroy(c.m);
	sa_hv_destroy(c.hv);
	free(xml);
	return 0;
}
