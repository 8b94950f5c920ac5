/*
 * siteagent/src/ident_int.h - who this site is, and whom it trusts.
 *
 * Below <state_dir>/ident (0700): "site.json" {deployment, site id, name}, "ca.pem" (certificate of
 * the deployment's CA), "ca.key" (only where the deployment was created), "site.pem", "site.key"
 * (TLS, Ed25519), "sign.key" (Ed25519 seed: manifests, receipts), "kek.key" (wraps data keys),
 * "peers/<site id>.json". Files are written whole (lb_fs_replace), keys 0600. There is no default
 * credential; nothing listens before enrolment.
 *
 * Certificates: Ed25519, X.509 v3, SAN URI "lifeboat:<deployment hex>:site:<site hex>", EKU client
 * and server, 398 days (CA ten years), basicConstraints critical, CA pathlen 0.
 */
#ifndef SITEAGENT_IDENT_INT_H
#define SITEAGENT_IDENT_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "base/seal.h"
#include "config_int.h"

struct lb_env;
struct lb_err;
struct lb_loop;
struct sa_ident;
struct sa_enrol;
struct sa_keyring;

struct sa_peer {
	char name[SA_NAME_BYTES];
	struct lb_id site;
	struct lb_pubkey key; /* signs its manifests and receipts */
	struct sa_addr addr;  /* where it listens; port 0: it connects to us */
};

/* Open what is there; a site without identity is no error (sa_ident_ready() is false). */
int sa_ident_open(struct sa_ident **out, struct lb_env *env, const char *state_dir,
		  const char *site_name, struct lb_err *err);
void sa_ident_close(struct sa_ident *id);
bool sa_ident_ready(const struct sa_ident *id);
/* Create a deployment: CA and this site's identity. LB_EEXIST when there is one. */
int sa_ident_init(struct sa_ident *id, struct lb_err *err);

/* Give this site another certificate, for the same key, by the CA that it holds. LB_EUNSUPPORTED:
 * it holds none, sa_enrol_renew() asks the site that does. Who made a rep_tls of the files reloads
 * it. */
int sa_ident_renew(struct sa_ident *id, struct lb_err *err);

const struct lb_id *sa_ident_deployment(const struct sa_ident *id);
const struct lb_id *sa_ident_site(const struct sa_ident *id);
const struct lb_signer *sa_ident_signer(const struct sa_ident *id);
const struct lb_key *sa_ident_kek(const struct sa_ident *id);
const char *sa_ident_ca_path(const struct sa_ident *id); /* absolute, for rep_tls_create() */
const char *sa_ident_cert_path(const struct sa_ident *id);
const char *sa_ident_key_path(const struct sa_ident *id);
/* Seconds until this site's certificate ends; negative: it has. */
int64_t sa_ident_cert_left_s(const struct sa_ident *id);

size_t sa_ident_peer_count(const struct sa_ident *id);
const struct sa_peer *sa_ident_peer(const struct sa_ident *id, size_t i);
const struct sa_peer *sa_ident_peer_by_name(const struct sa_ident *id, const char *name);
const struct sa_peer *sa_ident_peer_by_site(const struct sa_ident *id, const struct lb_id *site);
int sa_ident_peer_add(struct sa_ident *id, const struct sa_peer *p, struct lb_err *err);
/* Forget one whose enrolment did not come to its end. */
int sa_ident_peer_remove(struct sa_ident *id, const char *name, struct lb_err *err);
/* It is a peer no more; its key is kept for what it signed. LB_ENOTFOUND. */
int sa_ident_peer_retire(struct sa_ident *id, const char *name, struct lb_err *err);
/* The key that @site, enrolled or retired, signs with. LB_ENOTFOUND. */
int sa_ident_key_of(const struct sa_ident *id, const struct lb_id *site, struct lb_pubkey *out);

/*
 * Enrolment. Where the CA is: sa_enrol_token() makes a 128-bit token for one site name, single use,
 * valid for @ttl_ns (at most 15 min); the enrol listener is open only while one is valid. Its text,
 * carried by a person or a pipe, never on argv:
 *   lifeboat-token-v1:<host>:<port>:<32 hex>:<64 hex SHA-256 of the CA certificate's DER>
 * The joining site connects (TLS 1.3, server authenticated by that hash), sends {name, CSR, signing
 * key, listen address} under an HMAC-SHA-256 keyed with the token that covers the TLS exporter too,
 * and gets {CA, certificate, site id; the other's site id, name, signing key, listen address}:
 * enrol_int.h has the bytes. Tokens live in RAM: a restart forgets them. The peer is durable, the
 * token used and the port closed (unless another token is valid) before the answer.
 *
 * Errors of sa_enrol_token(): LB_EINPUT, LB_EEXIST (a site of that name is enrolled: remove it
 * first), LB_EUNSUPPORTED (the CA is elsewhere), LB_EBUSY. Of sa_enrol_join(): LB_EAUTH (wrong,
 * used or expired token, other name, foreign CA), LB_ECLOSED (nobody listens: no valid token
 * there), LB_ETIMEDOUT, LB_EPROTO, LB_EEXIST, LB_EINPUT (that is no token).
 */
int sa_enrol_create(struct sa_enrol **out, struct lb_env *env, struct lb_loop *loop,
		    struct sa_ident *id, const struct sa_config *cfg,
		    void (*on_joined)(void *arg, const struct sa_peer *p), void *arg,
		    struct lb_err *err);
void sa_enrol_destroy(struct sa_enrol *e);
int sa_enrol_token(struct sa_enrol *e, const char *peer_name, uint64_t ttl_ns, char *out,
		   size_t out_bytes, struct lb_err *err);
/* A token by which enrolled site @peer_name gets another certificate: single use, as above.
 * LB_ENOTFOUND: it is not enrolled. */
int sa_enrol_token_renew(struct sa_enrol *e, const char *peer_name, uint64_t ttl_ns, char *out,
			 size_t out_bytes, struct lb_err *err);
bool sa_enrol_listening(const struct sa_enrol *e);
/* At the joining site, blocking (worker thread): on success @id is ready, the peer recorded. */
int sa_enrol_join(struct sa_ident *id, const char *token_text, const struct sa_addr *listen,
		  struct lb_err *err);

/* At a site that joined, blocking: another certificate for its key, as sa_enrol_join(). It stays
 * who it is; the answer of another deployment, or for another site, is LB_EAUTH. */
int sa_enrol_renew(struct sa_ident *id, const char *token_text, struct lb_err *err);

/* ---- data keys: one per machine, wrapped under the KEK in <state_dir>/keys/<key id>.key. Thread:
 * any ---- */
int sa_keyring_open(struct sa_keyring **out, struct lb_env *env, const char *state_dir,
		    const struct lb_key *kek, struct lb_err *err);
void sa_keyring_close(struct sa_keyring *k);
/* The current key of @machine; made and stored durably when there is none. */
int sa_keyring_machine_key(struct sa_keyring *k, const struct lb_id *machine, struct lb_key *out,
			   struct lb_err *err);
/* LB_ENOTFOUND when this site does not hold it. */
int sa_keyring_by_id(struct sa_keyring *k, const struct lb_id *key_id, struct lb_key *out);
/* A key that came from a peer, durable. Idempotent. */
int sa_keyring_put(struct sa_keyring *k, const struct lb_id *machine, const struct lb_key *key,
		   struct lb_err *err);

#endif
