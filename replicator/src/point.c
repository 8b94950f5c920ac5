#include "replicator/point.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "replicator/view.h"
#include "store_int.h"

static int attachment_open(struct lb_buf **out, const struct rep_attachment *a,
			   const struct rep_manifest *m, const struct rep_view_cfg *cfg,
			   struct lb_err *err)
{
	char text[LB_ID_TEXT];
	struct lb_buf *b = NULL;
	struct lb_key dek;
	int rc = cfg->dek_of(cfg->arg, &a->key, &dek);

	if (rc != 0)
		return lb_err_set(err, (enum lb_code)rc, 0,
				  "this site does not hold data key %.16s",
				  lb_id_text(&a->key, text));
	rc = lb_buf_create(&b, a->bytes, err);
	if (rc == 0)
		rc = rep_attachment_open(b->p, a, m, &dek, err);
	lb_key_wipe(&dek);
	if (rc != 0) {
		lb_buf_unref(b);
		return rc;
	}
	b->len = a->bytes;
	*out = b;
	return 0;
}

int rep_point_attachment(struct lb_buf **out, struct rep_store *s, const struct lb_hash *manifest,
			 const struct lb_id *machine, enum rep_attachment_kind kind,
			 const struct rep_view_cfg *cfg, struct lb_err *err)
{
	const struct rep_attachment *a = NULL;
	struct rep_manifest *m = NULL;
	struct lb_buf *bytes = NULL;
	char text[LB_HASH_TEXT];
	int rc = rep_store_read_manifest(s, manifest, &bytes, err);

	if (rc == 0)
		rc = rep_manifest_alloc(&m, bytes, err);
	for (uint32_t i = 0; rc == 0 && i < m->attachments; i++) {
		if (m->attachment[i].kind == kind &&
		    lb_id_equal(&m->attachment[i].machine, machine))
			a = &m->attachment[i];
	}
	if (rc == 0 && a == NULL)
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "point %.16s has no %s of that machine",
				lb_hash_text(manifest, text),
				kind == REP_ATTACH_DEVICE_STATE ? "device state" : "description");
	if (rc == 0)
		rc = attachment_open(out, a, m, cfg, err);
	free(m);
	lb_buf_unref(bytes);
	return rc;
}

int rep_point_device_state(struct lb_buf **out, struct rep_store *s, const struct lb_hash *manifest,
			   const struct lb_id *machine, const struct rep_view_cfg *cfg,
			   struct lb_err *err)
{
	return rep_point_attachment(out, s, manifest, machine, REP_ATTACH_DEVICE_STATE, cfg, err);
}
