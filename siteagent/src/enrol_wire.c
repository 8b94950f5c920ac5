#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/rd.h"
#include "base/wr.h"
#include "enrol_int.h"
#include "replicator/manifest.h"

#define TOKEN_PREFIX "lifeboat-token-v1:"
#define TOKEN_TAIL   (1u + 32u + 1u + 64u) /* ":" secret ":" hash */
#define MAGIC_ASK    "LBENROL1"
#define MAGIC_ANSWER "LBENROL2"
#define MAC_PURPOSE  "lifeboat enrol v1"
#define MAC_BYTES    32u

/* ---- token ---- */

const char *sa_token_text(const struct sa_token *t, char *out, size_t out_bytes)
{
	char addr[96], secret[LB_ID_TEXT], ca[LB_HASH_TEXT];

	(void)snprintf(out, out_bytes, TOKEN_PREFIX "%s:%s:%s",
		       sa_addr_text(&t->addr, addr, sizeof(addr)), lb_id_text(&t->secret, secret),
		       lb_hash_text(&t->ca, ca));
	OPENSSL_cleanse(secret, sizeof(secret));
	return out;
}

static bool token_split(struct sa_token *out, char *text)
{
	const size_t prefix = sizeof(TOKEN_PREFIX) - 1;
	size_t len = strlen(text);
	char *tail;

	if (len < prefix + TOKEN_TAIL || memcmp(text, TOKEN_PREFIX, prefix) != 0)
		return false;
	tail = text + len - TOKEN_TAIL;
	if (tail[0] != ':' || tail[33] != ':')
		return false;
	tail[0] = '\0';
	tail[33] = '\0';
	return sa_addr_parse(&out->addr, text + prefix, NULL) == 0 &&
	       lb_id_parse(&out->secret, tail + 1, NULL) == 0 &&
	       lb_hash_parse(&out->ca, tail + 34, NULL) == 0;
}

int sa_token_parse(struct sa_token *out, const char *text, struct lb_err *err)
{
	char copy[SA_TOKEN_TEXT_BYTES];
	struct sa_token t;
	size_t len;
	bool ok;

	text += strspn(text, " \t\r\n");
	len = strcspn(text, " \t\r\n");
	if (len >= sizeof(copy) || text[len + strspn(text + len, " \t\r\n")] != '\0')
		return lb_err_set(err, LB_EINPUT, 0, "the token is longer than one");
	memcpy(copy, text, len);
	copy[len] = '\0';
	ok = token_split(&t, copy);
	OPENSSL_cleanse(copy, sizeof(copy));
	if (!ok)
		return lb_err_set(err, LB_EINPUT, 0,
				  "that is no token (" TOKEN_PREFIX "HOST:PORT:SECRET:HASH)");
	*out = t;
	OPENSSL_cleanse(&t.secret, sizeof(t.secret));
	return 0;
}

/* ---- parts of both messages ---- */

static void put_der(struct lb_wr *wr, const struct sa_der *d)
{
	LB_ASSERT(d->len <= sizeof(d->b));
	lb_wr_u16le(wr, (uint16_t)d->len);
	lb_wr_bytes(wr, d->b, d->len);
}

static bool get_der(struct lb_rd *rd, struct sa_der *d)
{
	d->len = lb_rd_u16le(rd);
	if (d->len == 0 || d->len > sizeof(d->b)) {
		d->len = 0;
		return false;
	}
	lb_rd_copy(rd, d->b, d->len);
	return true;
}

static void put_addr(struct lb_wr *wr, const struct sa_addr *a)
{
	lb_wr_str16(wr, a->port != 0 ? a->host : "");
	lb_wr_u16le(wr, a->port);
}

/* What a configuration would accept, or nothing at all. */
static bool get_addr(struct lb_rd *rd, struct sa_addr *a)
{
	struct sa_addr same;
	char text[96];

	lb_rd_str16(rd, a->host, sizeof(a->host));
	a->port = lb_rd_u16le(rd);
	if (rd->bad)
		return false;
	if (a->port == 0)
		return a->host[0] == '\0';
	return sa_addr_parse(&same, sa_addr_text(a, text, sizeof(text)), NULL) == 0;
}

static bool get_magic(struct lb_rd *rd, const char *magic)
{
	const uint8_t *p = lb_rd_bytes(rd, 8);

	return p != NULL && memcmp(p, magic, 8) == 0;
}

/* ---- request ---- */

static void mac_of(struct lb_hash *out, const struct lb_id *secret, const uint8_t *body, size_t len,
		   const uint8_t exporter[SA_EXPORTER_BYTES])
{
	uint8_t text[sizeof(MAC_PURPOSE) - 1 + SA_ENROL_FRAME_MAX + SA_EXPORTER_BYTES];
	struct lb_wr wr = lb_wr_init(text, sizeof(text));
	unsigned n = 0;

	lb_wr_bytes(&wr, MAC_PURPOSE, sizeof(MAC_PURPOSE) - 1);
	lb_wr_bytes(&wr, body, len);
	lb_wr_bytes(&wr, exporter, SA_EXPORTER_BYTES);
	LB_ASSERT(lb_wr_done(&wr));
	LB_ASSERT(HMAC(EVP_sha256(), secret->b, sizeof(secret->b), text, wr.len, out->b, &n) !=
			  NULL &&
		  n == MAC_BYTES);
}

int sa_enrol_request_encode(uint8_t *out, size_t cap, size_t *len, const struct sa_enrol_request *r,
			    const struct lb_id *secret, const uint8_t exporter[SA_EXPORTER_BYTES],
			    struct lb_err *err)
{
	struct lb_wr wr = lb_wr_init(out, cap < SA_ENROL_FRAME_MAX ? cap : SA_ENROL_FRAME_MAX);
	struct lb_hash mac;

	lb_wr_bytes(&wr, MAGIC_ASK, 8);
	lb_wr_str16(&wr, r->name);
	put_der(&wr, &r->csr);
	lb_wr_bytes(&wr, r->key.b, sizeof(r->key.b));
	put_addr(&wr, &r->addr);
	if (lb_wr_done(&wr)) {
		mac_of(&mac, secret, out, wr.len, exporter);
		lb_wr_hash(&wr, &mac);
	}
	if (!lb_wr_done(&wr))
		return lb_err_set(err, LB_EINVAL, 0, "encode a request to enrol %s", r->name);
	*len = wr.len;
	return 0;
}

int sa_enrol_request_decode(struct sa_enrol_request *out, const uint8_t *p, size_t len,
			    struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	bool ok = len <= SA_ENROL_FRAME_MAX && get_magic(&rd, MAGIC_ASK);

	if (ok)
		lb_rd_str16(&rd, out->name, sizeof(out->name));
	ok = ok && !rd.bad && rep_name_valid(out->name) && get_der(&rd, &out->csr);
	if (ok)
		lb_rd_copy(&rd, out->key.b, sizeof(out->key.b));
	ok = ok && get_addr(&rd, &out->addr);
	out->covered_bytes = len - rd.left;
	if (ok)
		out->mac = lb_rd_hash(&rd);
	if (!ok || !lb_rd_done(&rd))
		return lb_err_set(err, LB_EPROTO, 0, "not a request to enrol (%zu bytes)", len);
	return 0;
}

bool sa_enrol_request_is_of(const struct sa_enrol_request *r, const uint8_t *body,
			    const struct lb_id *secret, const uint8_t exporter[SA_EXPORTER_BYTES])
{
	struct lb_hash mac;

	mac_of(&mac, secret, body, r->covered_bytes, exporter);
	return CRYPTO_memcmp(mac.b, r->mac.b, sizeof(mac.b)) == 0;
}

/* ---- answer ---- */

int sa_enrol_answer_encode(uint8_t *out, size_t cap, size_t *len, const struct sa_enrol_answer *a,
			   struct lb_err *err)
{
	struct lb_wr wr = lb_wr_init(out, cap < SA_ENROL_FRAME_MAX ? cap : SA_ENROL_FRAME_MAX);
	bool refused = a->refusal[0] != '\0';

	lb_wr_bytes(&wr, MAGIC_ANSWER, 8);
	lb_wr_u8(&wr, refused ? 1 : 0);
	if (refused) {
		lb_wr_str16(&wr, a->refusal);
	} else {
		lb_wr_id(&wr, &a->deployment);
		lb_wr_id(&wr, &a->site);
		put_der(&wr, &a->ca);
		put_der(&wr, &a->cert);
		lb_wr_id(&wr, &a->other.site);
		lb_wr_str16(&wr, a->other.name);
		lb_wr_bytes(&wr, a->other.key.b, sizeof(a->other.key.b));
		put_addr(&wr, &a->other.addr);
	}
	if (!lb_wr_done(&wr))
		return lb_err_set(err, LB_EINVAL, 0, "encode an answer to enrolment");
	*len = wr.len;
	return 0;
}

static bool get_acceptance(struct lb_rd *rd, struct sa_enrol_answer *a)
{
	a->refusal[0] = '\0';
	a->deployment = lb_rd_id(rd);
	a->site = lb_rd_id(rd);
	if (!get_der(rd, &a->ca) || !get_der(rd, &a->cert))
		return false;
	a->other.site = lb_rd_id(rd);
	lb_rd_str16(rd, a->other.name, sizeof(a->other.name));
	lb_rd_copy(rd, a->other.key.b, sizeof(a->other.key.b));
	return !rd->bad && rep_name_valid(a->other.name) && get_addr(rd, &a->other.addr) &&
	       !lb_id_is_zero(&a->site) && !lb_id_is_zero(&a->other.site) &&
	       !lb_id_equal(&a->site, &a->other.site);
}

int sa_enrol_answer_decode(struct sa_enrol_answer *out, const uint8_t *p, size_t len,
			   struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	bool ok = len <= SA_ENROL_FRAME_MAX && get_magic(&rd, MAGIC_ANSWER);
	uint8_t kind = lb_rd_u8(&rd);

	if (kind == 1) {
		lb_rd_str16(&rd, out->refusal, sizeof(out->refusal));
		ok = ok && !rd.bad && out->refusal[0] != '\0';
	} else {
		ok = ok && kind == 0 && get_acceptance(&rd, out);
	}
	if (!ok || !lb_rd_done(&rd))
		return lb_err_set(err, LB_EPROTO, 0, "not an answer to enrolment (%zu bytes)", len);
	return 0;
}
