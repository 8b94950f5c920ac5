/*
 * What a boot is furnished with from its recovery point before anything runs: the machine's
 * description, a view of each disk, and of a memory point the device state and a view of the
 * memory.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/fs.h"
#include "runs_int.h"

#define ORDER_MAX_BYTES (4u << 20)

int sa_read_manifest(struct sa_agent *a, const struct lb_hash *point, struct lb_buf **bytes,
		     struct rep_manifest **m, struct lb_err *err)
{
	int rc = rep_store_read_manifest(a->store, point, bytes, err);

	if (rc != 0)
		return rc;
	*m = malloc(sizeof(**m));
	if (*m == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "manifest");
	return rep_manifest_decode(*m, (*bytes)->p, (*bytes)->len, err);
}

/* The machine's description from the point's sealed attachments. */
static int describe(struct sa_agent *a, const struct rep_manifest *m, const char *machine,
		    char **xml, char *address, struct lb_err *err)
{
	uint8_t *plain = malloc(REP_ATTACHMENT_MAX + 1);
	struct lb_key dek;
	int rc = plain == NULL ? lb_err_set(err, LB_ENOMEM, 0, "description of %s", machine)
			       : LB_ENOTFOUND;

	for (uint32_t i = 0; i < m->attachments && rc == LB_ENOTFOUND; i++) {
		const struct rep_attachment *at = &m->attachment[i];

		if (at->kind != REP_ATTACH_MACHINE ||
		    sa_keyring_by_id(a->keyring, &at->key, &dek) != 0)
			continue;
		if (rep_attachment_open(plain, at, m, &dek, err) != 0)
			continue;
		rc = sa_machine_xml_of(xml, (const char *)plain, at->bytes, machine, err);
		sa_machine_address_of(address, SA_HOST_BYTES, (const char *)plain, at->bytes,
				      machine);
	}
	lb_key_wipe(&dek);
	free(plain);
	if (rc == LB_ENOTFOUND || (rc == 0 && *xml == NULL))
		return lb_err_set(err, LB_ENOTFOUND, 0,
				  "the recovery point does not say how machine %s is built",
				  machine);
	return rc;
}

static int serve_volume(struct sa_agent *a, struct sa_boot *b, const struct rep_manifest_volume *mv,
			struct sa_view *view, struct lb_err *err)
{
	return sa_view_serve(a->views, b->dir, &b->point, &mv->volume, mv->volume_name, view, err);
}

static int serve_disk(struct sa_agent *a, struct sa_boot *b, const struct rep_manifest_volume *mv,
		      size_t n, struct lb_err *err)
{
	struct sa_boot_disk *d = &b->disk[n];
	struct sa_view view;
	int rc;

	if (n == SA_HV_DISKS_MAX)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "machine %s has over %d disks",
				  b->machine, SA_HV_DISKS_MAX);
	rc = serve_volume(a, b, mv, &view, err);
	if (rc != 0)
		return rc;
	d->size_bytes = view.size_bytes;
	(void)snprintf(d->name, sizeof(d->name), "%s", mv->volume_name);
	(void)snprintf(d->socket, sizeof(d->socket), "%s", view.socket);
	return 0;
}

/* Their number says that the machine may be defined, so it is not touched unless all are served. */
static int serve_disks(struct sa_agent *a, struct sa_boot *b, const struct rep_manifest *m,
		       struct lb_err *err)
{
	size_t n = 0;
	int rc = 0;

	for (uint32_t i = 0; i < m->volumes && rc == 0; i++) {
		const struct rep_manifest_volume *mv = &m->volume[i];

		if (strcmp(mv->machine_name, b->machine) != 0 || mv->kind != REP_VOLUME_DISK)
			continue;
		rc = serve_disk(a, b, mv, n, err);
		n += rc == 0;
	}
	if (rc == 0)
		b->disks = n;
	return rc;
}

/* ---- memory ---- */

static const struct rep_manifest_volume *ram_of(const struct rep_manifest *m, const char *machine)
{
	for (uint32_t i = 0; i < m->volumes; i++)
		if (m->volume[i].kind == REP_VOLUME_RAM &&
		    strcmp(m->volume[i].machine_name, machine) == 0)
			return &m->volume[i];
	return NULL;
}

int sa_open_state(struct sa_agent *a, const struct rep_manifest *m, const struct lb_id *machine,
		  uint8_t **out, size_t *bytes, struct lb_err *err)
{
	struct lb_key dek;
	int rc = lb_err_set(err, LB_ENOTFOUND, 0, "the point has no device state of the machine");

	for (uint32_t i = 0; i < m->attachments && rc == LB_ENOTFOUND; i++) {
		const struct rep_attachment *at = &m->attachment[i];

		if (at->kind != REP_ATTACH_DEVICE_STATE || !lb_id_equal(&at->machine, machine))
			continue;
		rc = sa_keyring_by_id(a->keyring, &at->key, &dek);
		if (rc != 0)
			return lb_err_set(err, LB_ENOTFOUND, 0,
					  "this site does not hold the key of the device state");
		*out = malloc(at->bytes + 1u);
		rc = *out == NULL ? lb_err_set(err, LB_ENOMEM, 0, "device state")
				  : rep_attachment_open(*out, at, m, &dek, err);
		*bytes = at->bytes;
		lb_key_wipe(&dek);
	}
	return rc;
}

static void order_path(char out[128], const struct sa_boot *b)
{
	char group[LB_ID_TEXT];

	(void)snprintf(out, 128, "orders/%s.%.64s", lb_id_text(&b->group, group), b->machine);
}

/* Only quicker with it: whatever is wrong with it, it is done without. */
static void furnish_order(struct sa_agent *a, const struct sa_boot *b, struct sa_boot_memory *out)
{
	char path[128];

	order_path(path, b);
	if (lb_fs_read_all(a->state, path, ORDER_MAX_BYTES, &out->order, &out->order_bytes, NULL) !=
	    0) {
		out->order = NULL;
		out->order_bytes = 0;
	}
}

void sa_keep_order(struct sa_agent *a, const struct sa_boot *b, struct sa_hv_machine *vm)
{
	uint8_t *order = NULL;
	size_t bytes = 0;
	char path[128];

	order_path(path, b);
	if (sa_hv_order(vm, &order, &bytes, NULL) == 0 &&
	    lb_fs_mkdir(a->state, "orders", NULL) == 0)
		(void)lb_fs_replace(a->state, path, order, bytes, NULL);
	free(order);
}

/* What a machine of a memory point goes on from. A point without memory, or whose memory cannot be
 * had, is booted cold: no failover fails for the sake of memory. */
static void furnish_memory(struct sa_agent *a, struct sa_boot *b, const struct rep_manifest *m,
			   struct sa_boot_memory *out)
{
	const struct rep_manifest_volume *ram = ram_of(m, b->machine);
	struct lb_err why = {0};
	struct sa_view view;
	int rc;

	if (ram == NULL)
		b->memory = false;
	if (!b->memory)
		return;
	rc = sa_open_state(a, m, &ram->machine, &out->state, &out->state_bytes, &why);
	if (rc == 0)
		rc = serve_volume(a, b, ram, &view, &why);
	b->memory = rc == 0;
	if (rc == 0)
		furnish_order(a, b, out);
	if (rc == 0)
		(void)snprintf(b->ram_socket, sizeof(b->ram_socket), "%s", view.socket);
	else
		(void)snprintf(b->cold, sizeof(b->cold), "%.150s", why.msg);
}

int sa_furnish_disks(struct sa_agent *a, struct sa_boot *b, struct lb_err *err)
{
	struct rep_manifest *m = NULL;
	struct lb_buf *bytes = NULL;
	int rc = sa_read_manifest(a, &b->point, &bytes, &m, err);

	if (rc == 0)
		rc = serve_disks(a, b, m, err);
	lb_buf_unref(bytes);
	free(m);
	return rc;
}

/* Durable first, so that a new process knows what may be there; then views; nothing runs yet. */
int sa_furnish(struct sa_agent *a, struct sa_boot *b, char **xml, struct sa_boot_memory *memory,
	       struct lb_err *err)
{
	struct rep_manifest *m = NULL;
	struct lb_buf *bytes = NULL;
	int rc = sa_boot_begin(a, b, err);

	if (rc == 0)
		rc = sa_read_manifest(a, &b->point, &bytes, &m, err);
	if (rc == 0)
		rc = describe(a, m, b->machine, xml, b->address, err);
	if (rc == 0)
		rc = sa_boot_save_xml(a, b, *xml, err);
	if (rc == 0)
		rc = serve_disks(a, b, m, err);
	if (rc == 0)
		furnish_memory(a, b, m, memory);
	if (rc == 0)
		rc = sa_boot_save(a, b, err);
	lb_buf_unref(bytes);
	free(m);
	return rc;
}
