/*
 * siteagent/src/ident_priv.h - what enrolment needs of an identity, beyond ident_int.h.
 *
 *   no identity --[sa_ident_init: own CA]--------------> ready
 *   no identity --[sa_enrol_join: another site's CA]---> ready     (one way; both end in adopt)
 *
 * "site.json" is written last: a crash before it leaves a site without identity.
 */
#ifndef SITEAGENT_IDENT_PRIV_H
#define SITEAGENT_IDENT_PRIV_H

#include "ident_int.h"
#include "x509_int.h"

/* A whole identity, not yet on disk. */
struct sa_ident_parts {
	struct lb_id deployment, site;
	X509 *ca, *cert;
	EVP_PKEY *ca_key; /* NULL: the CA is another site's */
	EVP_PKEY *key;
	struct lb_signer *signer;
	struct lb_key kek;
};
/* New site id, TLS key, signing key and KEK. *p is to be cleared also after a failure. */
int sa_ident_parts_new(struct sa_ident_parts *p, struct lb_env *env, struct lb_err *err);
void sa_ident_parts_clear(struct sa_ident_parts *p); /* wipes; all members may be zero */
/* Write everything durably, with @first as the first peer (may be NULL), then be ready. Takes the
 * parts on success. LB_EEXIST when there is an identity. */
int sa_ident_adopt(struct sa_ident *id, struct sa_ident_parts *p, const struct sa_peer *first,
		   struct lb_err *err);

/* Use @cert from now on, durably. Takes it on success. LB_EBUSY. Thread: any. */
int sa_ident_renewed(struct sa_ident *id, X509 *cert, struct lb_err *err);

struct lb_env *sa_ident_env(const struct sa_ident *id);
const char *sa_ident_name(const struct sa_ident *id);
X509 *sa_ident_ca(const struct sa_ident *id);         /* borrowed; ready only, as those below */
EVP_PKEY *sa_ident_ca_key(const struct sa_ident *id); /* NULL: not here */
X509 *sa_ident_cert(const struct sa_ident *id);       /* good until close, after a renewal too */
EVP_PKEY *sa_ident_key(const struct sa_ident *id);

/* peers.c: who is enrolled, in "ident/peers", and who was, in "ident/retired". Thread: any. Peers
 * that were removed stay in memory until close: pointers to them stay good. */
struct lb_fs;
struct sa_peers;
int sa_peers_open(struct sa_peers **out, struct lb_fs *fs, struct lb_err *err);
void sa_peers_close(struct sa_peers *p);
size_t sa_peers_count(struct sa_peers *p);
const struct sa_peer *sa_peers_at(struct sa_peers *p, size_t i); /* NULL: fewer by now */
const struct sa_peer *sa_peers_by_name(struct sa_peers *p, const char *name);
const struct sa_peer *sa_peers_by_site(struct sa_peers *p, const struct lb_id *site);
int sa_peers_add(struct sa_peers *p, const struct sa_peer *peer, struct lb_err *err);
int sa_peers_remove(struct sa_peers *p, const char *name, struct lb_err *err);
int sa_peers_retire(struct sa_peers *p, const char *name, struct lb_err *err);
int sa_peers_key_of(struct sa_peers *p, const struct lb_id *site, struct lb_pubkey *out);

#endif
