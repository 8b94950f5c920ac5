#include "replicator/manifest.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/hash.h"
#include "base/wr.h"
#include "format_int.h"

#define MANIFEST_VERSION 1u
#define MANIFEST_FIXED   200u /* up to the group's name */
#define VOLUME_FIXED     124u /* up to the names; at least 2 + 1 bytes each follow */
#define ATTACHMENT_FIXED 80u
#define STR16_HEADER     2u
#define AAD_MAX          160u

/* ---- rules, the same for writing and reading ---- */

static const char *volume_wrong(const struct rep_manifest *m, uint32_t i)
{
	const struct rep_manifest_volume *v = &m->volume[i];

	if (!rep_name_valid(v->machine_name))
		return "machine name";
	if (!rep_name_valid(v->volume_name))
		return "volume name";
	if (!rep_volume_kind_valid((unsigned)v->kind))
		return "kind";
	if (!rep_volume_bytes_valid(v->volume_bytes))
		return "size";
	if (lb_id_is_zero(&v->layer))
		return "layer id";
	for (uint32_t k = 0; k < i; k++) {
		const struct rep_manifest_volume *o = &m->volume[k];

		if (lb_id_equal(&o->layer, &v->layer))
			return "a layer named twice";
		if (lb_id_equal(&o->machine, &v->machine) && lb_id_equal(&o->volume, &v->volume))
			return "a volume named twice";
	}
	return NULL;
}

static const char *attachment_wrong(const struct rep_manifest *m, uint32_t i)
{
	const struct rep_attachment *a = &m->attachment[i];

	if (a->kind != REP_ATTACH_MACHINE && a->kind != REP_ATTACH_DEVICE_STATE)
		return "kind";
	if (a->bytes < 1 || a->bytes > REP_ATTACHMENT_MAX)
		return "length";
	for (uint32_t k = 0; k < i; k++) {
		if (m->attachment[k].kind == a->kind &&
		    lb_id_equal(&m->attachment[k].machine, &a->machine))
			return "named twice";
	}
	return NULL;
}

static bool has_ram(const struct rep_manifest *m, const struct lb_id *machine)
{
	for (uint32_t i = 0; i < m->volumes; i++) {
		if (m->volume[i].kind == REP_VOLUME_RAM &&
		    lb_id_equal(&m->volume[i].machine, machine))
			return true;
	}
	return false;
}

static bool has_state(const struct rep_manifest *m, const struct lb_id *machine)
{
	for (uint32_t i = 0; i < m->attachments; i++) {
		if (m->attachment[i].kind == REP_ATTACH_DEVICE_STATE &&
		    lb_id_equal(&m->attachment[i].machine, machine))
			return true;
	}
	return false;
}

/* RAM is of use only with the state of the processors that ran on it, and the other way round. A
 * point of class memory has both of each of its machines. */
static int memory_check(const struct rep_manifest *m, enum lb_code code, struct lb_err *err)
{
	for (uint32_t i = 0; i < m->attachments; i++) {
		if (m->attachment[i].kind == REP_ATTACH_DEVICE_STATE &&
		    !has_ram(m, &m->attachment[i].machine))
			return lb_err_set(
				err, code, 0,
				"manifest: attachment %u: device state of a machine without RAM",
				i);
	}
	for (uint32_t i = 0; i < m->volumes; i++) {
		const struct rep_manifest_volume *v = &m->volume[i];

		if (v->kind == REP_VOLUME_RAM && !has_state(m, &v->machine))
			return lb_err_set(err, code, 0,
					  "manifest: volume %u: RAM of %s without device state", i,
					  v->machine_name);
		if (m->consistency == REP_CONSISTENCY_MEMORY && !has_ram(m, &v->machine))
			return lb_err_set(err, code, 0,
					  "manifest: class memory, but %s has no RAM in it",
					  v->machine_name);
	}
	return 0;
}

static bool consistency_valid(unsigned c)
{
	return c >= REP_CONSISTENCY_CRASH && c <= REP_CONSISTENCY_MEMORY;
}

static int manifest_check(const struct rep_manifest *m, enum lb_code code, struct lb_err *err)
{
	const char *wrong = NULL;

	if (!rep_name_valid(m->group_name))
		return lb_err_set(err, code, 0, "manifest: group name");
	if (!consistency_valid((unsigned)m->consistency))
		return lb_err_set(err, code, 0, "manifest: consistency %u",
				  (unsigned)m->consistency);
	for (uint32_t i = 0; i < m->volumes; i++) {
		wrong = volume_wrong(m, i);
		if (wrong != NULL)
			return lb_err_set(err, code, 0, "manifest: volume %u: %s", i, wrong);
	}
	for (uint32_t i = 0; i < m->attachments; i++) {
		wrong = attachment_wrong(m, i);
		if (wrong != NULL)
			return lb_err_set(err, code, 0, "manifest: attachment %u: %s", i, wrong);
	}
	return memory_check(m, code, err);
}

static int counts_check(const struct rep_manifest *m, enum lb_code code, struct lb_err *err)
{
	if (m->volumes < 1 || m->volumes > REP_MANIFEST_MAX_VOLUMES)
		return lb_err_set(err, code, 0, "manifest: %u volumes", m->volumes);
	if (m->attachments > REP_MANIFEST_MAX_ATTACHMENTS)
		return lb_err_set(err, code, 0, "manifest: %u attachments", m->attachments);
	return 0;
}

/* ---- writing ---- */

static size_t manifest_bytes(const struct rep_manifest *m)
{
	size_t n = MANIFEST_FIXED + STR16_HEADER + strlen(m->group_name) + LB_SIG_BYTES;

	for (uint32_t i = 0; i < m->volumes; i++)
		n += VOLUME_FIXED + 2 * STR16_HEADER + strlen(m->volume[i].machine_name) +
		     strlen(m->volume[i].volume_name);
	for (uint32_t i = 0; i < m->attachments; i++)
		n += ATTACHMENT_FIXED + m->attachment[i].bytes;
	return n;
}

static void put_fixed(struct lb_wr *wr, const struct rep_manifest *m, size_t total)
{
	lb_wr_u32le(wr, REP_MAGIC_MANIFEST);
	lb_wr_u16le(wr, MANIFEST_VERSION);
	lb_wr_u16le(wr, 0);
	lb_wr_u32le(wr, (uint32_t)total);
	lb_wr_u8(wr, (uint8_t)m->consistency);
	lb_wr_zeros(wr, 3);
	lb_wr_id(wr, &m->deployment);
	lb_wr_id(wr, &m->site);
	lb_wr_id(wr, &m->group);
	lb_wr_id(wr, &m->barrier);
	lb_wr_u64le(wr, m->epoch);
	lb_wr_u64le(wr, m->seq);
	lb_wr_hash(wr, &m->prev);
	lb_wr_hash(wr, &m->base);
	lb_wr_u64le(wr, m->capture_boot_ns);
	lb_wr_u64le(wr, m->capture_wall_ns);
	lb_wr_id(wr, &m->boot_id);
	lb_wr_u32le(wr, m->volumes);
	lb_wr_u32le(wr, m->attachments);
	LB_ASSERT(wr->bad || wr->len == MANIFEST_FIXED);
	lb_wr_str16(wr, m->group_name);
}

static void put_volume(struct lb_wr *wr, const struct rep_manifest_volume *v)
{
	lb_wr_id(wr, &v->machine);
	lb_wr_id(wr, &v->volume);
	lb_wr_id(wr, &v->layer);
	lb_wr_id(wr, &v->key);
	lb_wr_hash(wr, &v->root);
	lb_wr_u64le(wr, v->volume_bytes);
	lb_wr_u64le(wr, v->layer_bytes);
	lb_wr_u8(wr, (uint8_t)v->kind);
	lb_wr_zeros(wr, 11);
	lb_wr_str16(wr, v->machine_name);
	lb_wr_str16(wr, v->volume_name);
}

static void put_attachment(struct lb_wr *wr, const struct rep_attachment *a)
{
	lb_wr_id(wr, &a->machine);
	lb_wr_id(wr, &a->key);
	lb_wr_u8(wr, (uint8_t)a->kind);
	lb_wr_zeros(wr, 3);
	lb_wr_u32le(wr, a->bytes);
	lb_wr_bytes(wr, a->nonce, sizeof(a->nonce));
	lb_wr_bytes(wr, a->tag, sizeof(a->tag));
	lb_wr_bytes(wr, a->cipher, a->bytes);
}

int rep_manifest_encode(struct lb_buf **out, const struct rep_manifest *m,
			const struct lb_signer *signer, struct lb_err *err)
{
	struct lb_buf *b = NULL;
	struct lb_sig sig;
	int rc = counts_check(m, LB_EINVAL, err);

	if (rc == 0)
		rc = manifest_check(m, LB_EINVAL, err);
	if (rc != 0)
		return rc;
	size_t total = manifest_bytes(m);
	if (total > REP_RECORD_MAX)
		return lb_err_set(err, LB_EINVAL, 0, "manifest: %zu bytes, the most is %u", total,
				  REP_RECORD_MAX);
	rc = lb_buf_create(&b, total, err);
	if (rc != 0)
		return rc;
	struct lb_wr wr = lb_wr_init(b->p, total);
	put_fixed(&wr, m, total);
	for (uint32_t i = 0; i < m->volumes; i++)
		put_volume(&wr, &m->volume[i]);
	for (uint32_t i = 0; i < m->attachments; i++)
		put_attachment(&wr, &m->attachment[i]);
	LB_ASSERT(lb_wr_done(&wr) && wr.len + LB_SIG_BYTES == total);
	rc = lb_sign(signer, &sig, "manifest v1", b->p, wr.len, err);
	if (rc != 0)
		goto out;
	lb_wr_bytes(&wr, sig.b, sizeof(sig.b));
	LB_ASSERT(lb_wr_done(&wr));
	b->len = total;
	*out = b;
	b = NULL;
out:
	lb_buf_unref(b);
	return rc;
}

/* ---- reading ---- */

static bool get_volume(struct rep_manifest_volume *v, struct lb_rd *rd)
{
	v->machine = lb_rd_id(rd);
	v->volume = lb_rd_id(rd);
	v->layer = lb_rd_id(rd);
	v->key = lb_rd_id(rd);
	v->root = lb_rd_hash(rd);
	v->volume_bytes = lb_rd_u64le(rd);
	v->layer_bytes = lb_rd_u64le(rd);
	v->kind = lb_rd_u8(rd);
	bool zeros = rep_rd_zeros(rd, 11);
	lb_rd_str16(rd, v->machine_name, sizeof(v->machine_name));
	lb_rd_str16(rd, v->volume_name, sizeof(v->volume_name));
	return zeros && !rd->bad;
}

static bool get_attachment(struct rep_attachment *a, struct lb_rd *rd)
{
	a->machine = lb_rd_id(rd);
	a->key = lb_rd_id(rd);
	a->kind = lb_rd_u8(rd);
	bool zeros = rep_rd_zeros(rd, 3);
	a->bytes = lb_rd_u32le(rd);
	lb_rd_copy(rd, a->nonce, sizeof(a->nonce));
	lb_rd_copy(rd, a->tag, sizeof(a->tag));
	a->cipher = lb_rd_bytes(rd, a->bytes);
	return zeros && !rd->bad;
}

static bool get_ids(struct rep_manifest *m, struct lb_rd *rd)
{
	m->consistency = lb_rd_u8(rd);
	bool zeros = rep_rd_zeros(rd, 3);
	m->deployment = lb_rd_id(rd);
	m->site = lb_rd_id(rd);
	m->group = lb_rd_id(rd);
	m->barrier = lb_rd_id(rd);
	m->epoch = lb_rd_u64le(rd);
	m->seq = lb_rd_u64le(rd);
	m->prev = lb_rd_hash(rd);
	m->base = lb_rd_hash(rd);
	m->capture_boot_ns = lb_rd_u64le(rd);
	m->capture_wall_ns = lb_rd_u64le(rd);
	m->boot_id = lb_rd_id(rd);
	m->volumes = lb_rd_u32le(rd);
	m->attachments = lb_rd_u32le(rd);
	lb_rd_str16(rd, m->group_name, sizeof(m->group_name));
	return zeros && !rd->bad;
}

static int get_parts(struct rep_manifest *m, struct lb_rd *rd, struct lb_err *err)
{
	for (uint32_t i = 0; i < m->volumes; i++) {
		if (!get_volume(&m->volume[i], rd))
			return lb_err_set(err, LB_ECORRUPT, 0, "manifest: volume %u", i);
	}
	for (uint32_t i = 0; i < m->attachments; i++) {
		if (!get_attachment(&m->attachment[i], rd))
			return lb_err_set(err, LB_ECORRUPT, 0, "manifest: attachment %u", i);
	}
	if (!lb_rd_done(rd))
		return lb_err_set(err, LB_ECORRUPT, 0, "manifest: %zu bytes left over", rd->left);
	return 0;
}

int rep_manifest_decode(struct rep_manifest *out, const void *p, size_t len, struct lb_err *err)
{
	if (len < MANIFEST_FIXED + LB_SIG_BYTES || len > REP_RECORD_MAX)
		return lb_err_set(err, LB_ECORRUPT, 0, "manifest: length %zu", len);
	struct lb_rd rd = lb_rd_init(p, len - LB_SIG_BYTES);
	uint32_t magic = lb_rd_u32le(&rd);
	unsigned version = lb_rd_u16le(&rd);
	unsigned flags = lb_rd_u16le(&rd);
	uint32_t total = lb_rd_u32le(&rd);

	if (magic != REP_MAGIC_MANIFEST)
		return lb_err_set(err, LB_ECORRUPT, 0, "manifest: magic 0x%08x", magic);
	if (version != MANIFEST_VERSION)
		return lb_err_set(err, LB_ECORRUPT, 0, "manifest: version %u", version);
	if (flags != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "manifest: flags 0x%04x", flags);
	if (total != len)
		return lb_err_set(err, LB_ECORRUPT, 0, "manifest: length %zu, says %u", len, total);
	if (!get_ids(out, &rd))
		return lb_err_set(err, LB_ECORRUPT, 0, "manifest: fixed part");
	int rc = counts_check(out, LB_ECORRUPT, err);
	if (rc == 0)
		rc = get_parts(out, &rd, err);
	if (rc == 0)
		rc = manifest_check(out, LB_ECORRUPT, err);
	return rc;
}

int rep_manifest_verify(const void *p, size_t len, const struct lb_pubkey *key, struct lb_err *err)
{
	const uint8_t *b = p;
	struct lb_sig sig;

	if (len < MANIFEST_FIXED + LB_SIG_BYTES || len > REP_RECORD_MAX)
		return lb_err_set(err, LB_ECORRUPT, 0, "manifest: length %zu", len);
	memcpy(sig.b, b + len - LB_SIG_BYTES, sizeof(sig.b));
	int rc = lb_sig_verify(key, &sig, "manifest v1", p, len - LB_SIG_BYTES, err);
	if (rc != 0)
		return lb_err_wrap(err, rc, "manifest");
	return 0;
}

void rep_manifest_hash(struct lb_hash *out, const void *p, size_t len)
{
	lb_sha256(out, p, len);
}

/* ---- attachments ---- */

static size_t attachment_aad(uint8_t out[AAD_MAX], const struct rep_attachment *a,
			     const struct rep_manifest *m)
{
	static const char purpose[] = "lifeboat attachment v1"; /* with its NUL */
	struct lb_wr wr = lb_wr_init(out, AAD_MAX);

	lb_wr_bytes(&wr, purpose, sizeof(purpose));
	lb_wr_id(&wr, &m->deployment);
	lb_wr_id(&wr, &m->group);
	lb_wr_id(&wr, &m->barrier);
	lb_wr_id(&wr, &a->machine);
	lb_wr_id(&wr, &a->key);
	lb_wr_u64le(&wr, m->epoch);
	lb_wr_u64le(&wr, m->seq);
	lb_wr_u32le(&wr, (uint32_t)a->kind);
	lb_wr_u32le(&wr, a->bytes);
	LB_ASSERT(lb_wr_done(&wr));
	return wr.len;
}

int rep_attachment_seal(struct rep_attachment *out, uint8_t *cipher, const struct rep_manifest *m,
			const struct lb_key *dek, struct lb_env *env, const void *plain,
			struct lb_err *err)
{
	struct rep_attachment a = {.machine = out->machine, .kind = out->kind, .bytes = out->bytes};
	struct lb_sealer *s = NULL;
	uint8_t aad[AAD_MAX];

	if (a.bytes < 1 || a.bytes > REP_ATTACHMENT_MAX)
		return lb_err_set(err, LB_EINVAL, 0, "seal attachment of %u bytes", a.bytes);
	int rc = lb_sealer_create(&s, dek, err);
	if (rc != 0)
		return rc;
	lb_key_id(&a.key, dek);
	env->random(env, a.nonce, sizeof(a.nonce));
	size_t aad_len = attachment_aad(aad, &a, m);
	rc = lb_seal(s, cipher, a.tag, a.nonce, aad, aad_len, plain, a.bytes, err);
	lb_sealer_destroy(s);
	if (rc != 0)
		return rc;
	a.cipher = cipher;
	*out = a;
	return 0;
}

int rep_attachment_open(uint8_t *plain, const struct rep_attachment *a,
			const struct rep_manifest *m, const struct lb_key *dek, struct lb_err *err)
{
	struct lb_sealer *s = NULL;
	uint8_t aad[AAD_MAX];
	size_t aad_len = attachment_aad(aad, a, m);
	int rc = lb_sealer_create(&s, dek, err);

	if (rc != 0)
		return rc;
	rc = lb_unseal(s, plain, a->tag, a->nonce, aad, aad_len, a->cipher, a->bytes, err);
	lb_sealer_destroy(s);
	if (rc != 0)
		return lb_err_wrap(err, rc, "open attachment of kind %u", (unsigned)a->kind);
	return 0;
}
