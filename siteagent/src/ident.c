#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "ident_priv.h"
#include "replicator/manifest.h"

#define DIR_NAME   "ident"
#define SITE_JSON  DIR_NAME "/site.json"
#define FILE_BYTES 16384u
#define SEED_BYTES 32u
#define CERTS_MAX  64u /* renewals of one process */

struct sa_ident {
	struct lb_env *env;
	struct lb_fs *fs; /* the state directory */
	char name[SA_NAME_BYTES];
	char ca_path[SA_PATH_BYTES + 32], cert_path[SA_PATH_BYTES + 32],
		key_path[SA_PATH_BYTES + 32];
	pthread_mutex_t change; /* one init, join or renewal at a time */
	atomic_bool ready;      /* set last; then of the parts only the certificate changes */
	struct sa_ident_parts parts;
	pthread_mutex_t cert_lock;
	X509 *cert[CERTS_MAX]; /* under the lock; the last is ours, earlier ones are borrowed still
				*/
	size_t certs;
	struct sa_peers *peers;
};

/* ---- parts ---- */

int sa_ident_parts_new(struct sa_ident_parts *p, struct lb_env *env, struct lb_err *err)
{
	int rc;

	memset(p, 0, sizeof(*p));
	lb_id_random(&p->site, env);
	lb_key_random(&p->kek, env);
	rc = sa_x509_key_new(&p->key, env, err);
	return rc == 0 ? lb_signer_generate(&p->signer, env, err) : rc;
}

void sa_ident_parts_clear(struct sa_ident_parts *p)
{
	X509_free(p->ca);
	X509_free(p->cert);
	EVP_PKEY_free(p->ca_key);
	EVP_PKEY_free(p->key);
	lb_signer_destroy(p->signer);
	lb_key_wipe(&p->kek);
	memset(p, 0, sizeof(*p));
}

/* ---- writing ---- */

static int write_cert(struct lb_fs *fs, const char *file, X509 *cert, struct lb_err *err)
{
	char *pem = NULL;
	size_t len = 0;
	int rc = sa_x509_pem(&pem, &len, cert, err);

	if (rc == 0)
		rc = lb_fs_replace(fs, file, pem, len, err);
	OPENSSL_free(pem);
	return rc;
}

static int write_key(struct lb_fs *fs, const char *file, EVP_PKEY *key, struct lb_err *err)
{
	char *pem = NULL;
	size_t len = 0;
	int rc = sa_x509_key_pem(&pem, &len, key, err);

	if (rc == 0)
		rc = lb_fs_replace(fs, file, pem, len, err);
	OPENSSL_clear_free(pem, len);
	return rc;
}

static int write_seed(struct lb_fs *fs, const struct lb_signer *signer, struct lb_err *err)
{
	uint8_t seed[SEED_BYTES];
	int rc;

	lb_signer_export(signer, seed);
	rc = lb_fs_replace(fs, DIR_NAME "/sign.key", seed, sizeof(seed), err);
	OPENSSL_cleanse(seed, sizeof(seed));
	return rc;
}

static int write_site(struct lb_fs *fs, const struct sa_ident_parts *p, const char *name,
		      struct lb_err *err)
{
	char deployment[LB_ID_TEXT], site[LB_ID_TEXT];
	json_t *o = json_pack("{s:i, s:s, s:s, s:s}", "version", 1, "deployment",
			      lb_id_text(&p->deployment, deployment), "site",
			      lb_id_text(&p->site, site), "name", name);
	char *text = o != NULL ? json_dumps(o, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
	int rc = text != NULL ? lb_fs_replace(fs, SITE_JSON, text, strlen(text), err)
			      : lb_err_set(err, LB_ENOMEM, 0, "write %s", SITE_JSON);

	json_decref(o);
	free(text);
	return rc;
}

/* What an init left that did not come to its end: beside another site's CA it would be damage. */
static int forget_ca_key(struct lb_fs *fs, struct lb_err *err)
{
	struct lb_err why = {0};
	int rc = lb_fs_unlink(fs, DIR_NAME "/ca.key", &why);

	if (rc == LB_ENOTFOUND)
		return 0;
	if (rc != 0)
		return lb_err_set(err, (enum lb_code)rc, why.sys_errno, "%s", why.msg);
	return lb_fs_sync_dir(fs, DIR_NAME, err);
}

static int write_parts(struct sa_ident *id, const struct sa_ident_parts *p, struct lb_err *err)
{
	int rc = write_cert(id->fs, DIR_NAME "/ca.pem", p->ca, err);

	if (rc == 0)
		rc = p->ca_key != NULL ? write_key(id->fs, DIR_NAME "/ca.key", p->ca_key, err)
				       : forget_ca_key(id->fs, err);
	if (rc == 0)
		rc = write_cert(id->fs, DIR_NAME "/site.pem", p->cert, err);
	if (rc == 0)
		rc = write_key(id->fs, DIR_NAME "/site.key", p->key, err);
	if (rc == 0)
		rc = write_seed(id->fs, p->signer, err);
	if (rc == 0)
		rc = lb_fs_replace(id->fs, DIR_NAME "/kek.key", p->kek.b, sizeof(p->kek.b), err);
	return rc;
}

/* Peers of a join that did not come to its end: a site without identity has none. */
static int forget_peers(struct sa_ident *id, struct lb_err *err)
{
	const struct sa_peer *p;
	int rc = 0;

	while (rc == 0 && (p = sa_peers_at(id->peers, 0)) != NULL)
		rc = sa_peers_remove(id->peers, p->name, err);
	return rc;
}

int sa_ident_adopt(struct sa_ident *id, struct sa_ident_parts *p, const struct sa_peer *first,
		   struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&id->change);
	if (atomic_load(&id->ready))
		rc = lb_err_set(err, LB_EEXIST, 0, "site %s has an identity already", id->name);
	else
		rc = write_parts(id, p, err);
	if (rc == 0)
		rc = forget_peers(id, err);
	if (rc == 0 && first != NULL)
		rc = sa_peers_add(id->peers, first, err);
	if (rc == 0)
		rc = write_site(id->fs, p, id->name, err);
	if (rc == 0) {
		id->parts = *p;
		memset(p, 0, sizeof(*p));
		atomic_store(&id->ready, true);
	}
	(void)pthread_mutex_unlock(&id->change);
	return rc;
}

int sa_ident_init(struct sa_ident *id, struct lb_err *err)
{
	struct sa_ident_parts p;
	struct sa_x509_subject subject;
	int rc = sa_ident_parts_new(&p, id->env, err);

	lb_id_random(&p.deployment, id->env);
	if (rc == 0)
		rc = sa_x509_key_new(&p.ca_key, id->env, err);
	if (rc == 0)
		rc = sa_x509_ca_new(&p.ca, p.ca_key, &p.deployment, id->env, err);
	subject = (struct sa_x509_subject){
		.deployment = p.deployment, .site = p.site, .name = id->name, .key = p.key};
	if (rc == 0)
		rc = sa_x509_site_new(&p.cert, p.ca, p.ca_key, &subject, id->env, err);
	if (rc == 0)
		rc = sa_ident_adopt(id, &p, NULL, err);
	sa_ident_parts_clear(&p);
	return rc;
}

/* ---- renewal ---- */

int sa_ident_renewed(struct sa_ident *id, X509 *cert, struct lb_err *err)
{
	int rc = 0;

	(void)pthread_mutex_lock(&id->change);
	if (id->certs == CERTS_MAX)
		rc = lb_err_set(err, LB_EBUSY, 0,
				"renewed %u times since the agent's start; restart it first",
				CERTS_MAX);
	if (rc == 0)
		rc = write_cert(id->fs, DIR_NAME "/site.pem", cert, err);
	(void)pthread_mutex_lock(&id->cert_lock);
	if (rc == 0)
		id->cert[id->certs++] = cert;
	(void)pthread_mutex_unlock(&id->cert_lock);
	(void)pthread_mutex_unlock(&id->change);
	return rc;
}

int sa_ident_renew(struct sa_ident *id, struct lb_err *err)
{
	struct sa_x509_subject subject;
	X509 *cert = NULL;
	int rc;

	if (!sa_ident_ready(id))
		return lb_err_set(err, LB_ENOTFOUND, 0, "site %s has no identity yet", id->name);
	if (id->parts.ca_key == NULL)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "site %s does not hold the deployment's CA: it needs a token of "
				  "the site that does",
				  id->name);
	subject = (struct sa_x509_subject){.deployment = id->parts.deployment,
					   .site = id->parts.site,
					   .name = id->name,
					   .key = id->parts.key};
	rc = sa_x509_site_new(&cert, id->parts.ca, id->parts.ca_key, &subject, id->env, err);
	if (rc == 0)
		rc = sa_ident_renewed(id, cert, err);
	if (rc != 0)
		X509_free(cert);
	return rc;
}

/* ---- reading ---- */

static int read_file(struct sa_ident *id, const char *file, uint8_t **out, size_t *len,
		     struct lb_err *err)
{
	int rc = lb_fs_read_all(id->fs, file, FILE_BYTES, out, len, err);

	if (rc == LB_ENOTFOUND)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s is missing", file);
	return rc;
}

static int read_cert(struct sa_ident *id, const char *file, X509 **out, struct lb_err *err)
{
	uint8_t *pem = NULL;
	size_t len = 0;
	int rc = read_file(id, file, &pem, &len, err);

	if (rc == 0 && sa_x509_of_pem(out, pem, len, NULL) != 0)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%s is not one PEM certificate", file);
	free(pem);
	return rc;
}

static int read_key(struct sa_ident *id, const char *file, EVP_PKEY **out, struct lb_err *err)
{
	uint8_t *pem = NULL;
	size_t len = 0;
	int rc = read_file(id, file, &pem, &len, err);

	if (rc == 0 && sa_x509_key_of_pem(out, pem, len, NULL) != 0)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%s is not one Ed25519 private key", file);
	if (pem != NULL)
		OPENSSL_cleanse(pem, len);
	free(pem);
	return rc;
}

/* Files that are 32 secret bytes. */
static int read_secret(struct sa_ident *id, const char *file, uint8_t out[SEED_BYTES],
		       struct lb_err *err)
{
	uint8_t *p = NULL;
	size_t len = 0;
	int rc = read_file(id, file, &p, &len, err);

	if (rc == 0 && len != SEED_BYTES)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%s: %zu bytes, must be %u", file, len,
				SEED_BYTES);
	if (rc == 0)
		memcpy(out, p, SEED_BYTES);
	if (p != NULL)
		OPENSSL_cleanse(p, len);
	free(p);
	return rc;
}

static int read_secrets(struct sa_ident *id, struct sa_ident_parts *p, struct lb_err *err)
{
	uint8_t seed[SEED_BYTES] = {0};
	int rc = read_secret(id, DIR_NAME "/sign.key", seed, err);

	if (rc == 0)
		rc = lb_signer_from_seed(&p->signer, seed, err);
	OPENSSL_cleanse(seed, sizeof(seed));
	return rc == 0 ? read_secret(id, DIR_NAME "/kek.key", p->kek.b, err) : rc;
}

static int decode_site(struct sa_ident *id, const uint8_t *text, size_t len,
		       struct sa_ident_parts *p, struct lb_err *err)
{
	json_error_t why = {.line = 0};
	json_t *o = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, &why);
	const char *deployment = NULL, *site = NULL, *name = NULL;
	int version = 0, rc = 0;

	if (json_unpack_ex(o, &why, 0, "{s:i, s:s, s:s, s:s}", "version", &version, "deployment",
			   &deployment, "site", &site, "name", &name) != 0)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%s line %d: %s", SITE_JSON, why.line,
				why.text);
	else if (version != 1)
		rc = lb_err_set(err, LB_EVERSION, 0, "%s: version %d, this program knows 1",
				SITE_JSON, version);
	else if (lb_id_parse(&p->deployment, deployment, NULL) != 0 ||
		 lb_id_parse(&p->site, site, NULL) != 0)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%s: an id that is none", SITE_JSON);
	else if (strcmp(name, id->name) != 0)
		rc = lb_err_set(
			err, LB_EINPUT, 0,
			"the configuration names site %s, its state directory is of site %.64s",
			id->name, name);
	json_decref(o);
	return rc;
}

/* Certificate and keys belong together. Time is not looked at: an expired site starts, and says so
 * where it connects. */
static int check_parts(const struct sa_ident_parts *p, struct lb_err *err)
{
	if (EVP_PKEY_eq(X509_get0_pubkey(p->cert), p->key) != 1)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s/site.key is not the key of site.pem",
				  DIR_NAME);
	if (X509_verify(p->cert, X509_get0_pubkey(p->ca)) != 1)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s/site.pem is not of the CA in ca.pem",
				  DIR_NAME);
	if (p->ca_key != NULL && EVP_PKEY_eq(X509_get0_pubkey(p->ca), p->ca_key) != 1)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s/ca.key is not the key of ca.pem",
				  DIR_NAME);
	return 0;
}

static int read_ca_key(struct sa_ident *id, struct sa_ident_parts *p, struct lb_err *err)
{
	struct lb_file *f = NULL;
	int rc = lb_fs_open(id->fs, &f, DIR_NAME "/ca.key", LB_FS_READ, err);

	if (rc == LB_ENOTFOUND)
		return 0; /* another site's CA */
	lb_file_close(f);
	return rc == 0 ? read_key(id, DIR_NAME "/ca.key", &p->ca_key, err) : rc;
}

static int load(struct sa_ident *id, struct sa_ident_parts *p, struct lb_err *err)
{
	int rc = read_cert(id, DIR_NAME "/ca.pem", &p->ca, err);

	if (rc == 0)
		rc = read_cert(id, DIR_NAME "/site.pem", &p->cert, err);
	if (rc == 0)
		rc = read_key(id, DIR_NAME "/site.key", &p->key, err);
	if (rc == 0)
		rc = read_ca_key(id, p, err);
	if (rc == 0)
		rc = read_secrets(id, p, err);
	return rc == 0 ? check_parts(p, err) : rc;
}

static int load_if_any(struct sa_ident *id, struct lb_err *err)
{
	struct sa_ident_parts p = {.ca = NULL};
	struct lb_err why = {0};
	uint8_t *text = NULL;
	size_t len = 0;
	int rc = lb_fs_read_all(id->fs, SITE_JSON, FILE_BYTES, &text, &len, &why);

	if (rc == LB_ENOTFOUND)
		return 0;
	if (rc != 0)
		return lb_err_set(err, (enum lb_code)rc, why.sys_errno, "%s", why.msg);
	rc = decode_site(id, text, len, &p, err);
	if (rc == 0)
		rc = load(id, &p, err);
	if (rc == 0) {
		id->parts = p;
		atomic_store(&id->ready, true);
	} else {
		sa_ident_parts_clear(&p);
	}
	free(text);
	return rc;
}

/* Keys that others can read are no secret: refuse, rather than use them. */
static int check_mode(const char *state_dir, struct lb_err *err)
{
	char path[SA_PATH_BYTES + 32];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/" DIR_NAME, state_dir);
	if (stat(path, &st) != 0)
		return lb_err_errno(err, errno, "stat %s", path);
	if ((st.st_mode & 077) != 0)
		return lb_err_set(err, LB_EDENIED, 0,
				  "%s has mode %03o, must be 700: it holds keys", path,
				  (unsigned)st.st_mode & 0777);
	return 0;
}

static int open_dir(struct sa_ident *id, const char *state_dir, struct lb_err *err)
{
	int rc = lb_fs_dir_create(&id->fs, state_dir, err);

	if (rc == 0)
		rc = lb_fs_mkdir(id->fs, DIR_NAME, err);
	if (rc == 0)
		rc = lb_fs_sync_dir(id->fs, "", err);
	return rc == 0 ? check_mode(state_dir, err) : rc;
}

int sa_ident_open(struct sa_ident **out, struct lb_env *env, const char *state_dir,
		  const char *site_name, struct lb_err *err)
{
	struct sa_ident *id;
	int rc;

	if (!rep_name_valid(site_name) || strlen(state_dir) >= SA_PATH_BYTES)
		return lb_err_set(err, LB_EINPUT, 0,
				  "\"%.64s\" is not a site's name or \"%.64s\" too long", site_name,
				  state_dir);
	id = calloc(1, sizeof(*id));
	if (id == NULL || pthread_mutex_init(&id->change, NULL) != 0 ||
	    pthread_mutex_init(&id->cert_lock, NULL) != 0) {
		free(id);
		return lb_err_set(err, LB_ENOMEM, 0, "open the identity of %s", site_name);
	}
	id->env = env;
	(void)snprintf(id->name, sizeof(id->name), "%s", site_name);
	(void)snprintf(id->ca_path, sizeof(id->ca_path), "%s/" DIR_NAME "/ca.pem", state_dir);
	(void)snprintf(id->cert_path, sizeof(id->cert_path), "%s/" DIR_NAME "/site.pem", state_dir);
	(void)snprintf(id->key_path, sizeof(id->key_path), "%s/" DIR_NAME "/site.key", state_dir);
	rc = open_dir(id, state_dir, err);
	if (rc == 0)
		rc = sa_peers_open(&id->peers, id->fs, err);
	if (rc == 0)
		rc = load_if_any(id, err);
	if (rc != 0) {
		sa_ident_close(id);
		return rc;
	}
	*out = id;
	return 0;
}

void sa_ident_close(struct sa_ident *id)
{
	if (id == NULL)
		return;
	sa_peers_close(id->peers);
	for (size_t i = 0; i < id->certs; i++)
		X509_free(id->cert[i]);
	sa_ident_parts_clear(&id->parts);
	lb_fs_destroy(id->fs);
	(void)pthread_mutex_destroy(&id->cert_lock);
	(void)pthread_mutex_destroy(&id->change);
	free(id);
}

/* ---- what others ask ---- */

bool sa_ident_ready(const struct sa_ident *id)
{
	return atomic_load(&id->ready);
}

const struct lb_id *sa_ident_deployment(const struct sa_ident *id)
{
	return &id->parts.deployment;
}

const struct lb_id *sa_ident_site(const struct sa_ident *id)
{
	return &id->parts.site;
}

const struct lb_signer *sa_ident_signer(const struct sa_ident *id)
{
	LB_ASSERT(sa_ident_ready(id));
	return id->parts.signer;
}

const struct lb_key *sa_ident_kek(const struct sa_ident *id)
{
	LB_ASSERT(sa_ident_ready(id));
	return &id->parts.kek;
}

const char *sa_ident_ca_path(const struct sa_ident *id)
{
	return id->ca_path;
}

const char *sa_ident_cert_path(const struct sa_ident *id)
{
	return id->cert_path;
}

const char *sa_ident_key_path(const struct sa_ident *id)
{
	return id->key_path;
}

int64_t sa_ident_cert_left_s(const struct sa_ident *id)
{
	return sa_ident_ready(id) ? sa_x509_left_s(sa_ident_cert(id), id->env) : -1;
}

struct lb_env *sa_ident_env(const struct sa_ident *id)
{
	return id->env;
}

const char *sa_ident_name(const struct sa_ident *id)
{
	return id->name;
}

X509 *sa_ident_ca(const struct sa_ident *id)
{
	return id->parts.ca;
}

EVP_PKEY *sa_ident_ca_key(const struct sa_ident *id)
{
	return id->parts.ca_key;
}

X509 *sa_ident_cert(const struct sa_ident *id)
{
	struct sa_ident *me = (struct sa_ident *)id; /* for its lock */
	X509 *cert;

	(void)pthread_mutex_lock(&me->cert_lock);
	cert = me->certs > 0 ? me->cert[me->certs - 1] : me->parts.cert;
	(void)pthread_mutex_unlock(&me->cert_lock);
	return cert;
}

EVP_PKEY *sa_ident_key(const struct sa_ident *id)
{
	return id->parts.key;
}

size_t sa_ident_peer_count(const struct sa_ident *id)
{
	return sa_peers_count(id->peers);
}

const struct sa_peer *sa_ident_peer(const struct sa_ident *id, size_t i)
{
	return sa_peers_at(id->peers, i);
}

const struct sa_peer *sa_ident_peer_by_name(const struct sa_ident *id, const char *name)
{
	return sa_peers_by_name(id->peers, name);
}

const struct sa_peer *sa_ident_peer_by_site(const struct sa_ident *id, const struct lb_id *site)
{
	return sa_peers_by_site(id->peers, site);
}

int sa_ident_peer_add(struct sa_ident *id, const struct sa_peer *p, struct lb_err *err)
{
	return sa_peers_add(id->peers, p, err);
}

int sa_ident_peer_remove(struct sa_ident *id, const char *name, struct lb_err *err)
{
	return sa_peers_remove(id->peers, name, err);
}

int sa_ident_peer_retire(struct sa_ident *id, const char *name, struct lb_err *err)
{
	return sa_peers_retire(id->peers, name, err);
}

int sa_ident_key_of(const struct sa_ident *id, const struct lb_id *site, struct lb_pubkey *out)
{
	return sa_peers_key_of(id->peers, site, out);
}
