#include "uplink/tls.h"

#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <poll.h>
#include <psa/crypto.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include <cerrno>
#include <cstdio>
#include <iterator>

#include "uplink/dial.h"
#include "uplink/text.h"

namespace slmd::uplink {
namespace {

constexpr bool mbedtls3 = MBEDTLS_VERSION_NUMBER >= 0x03000000;

// PSA's generator, so that there is one, and nothing of it is Mbed TLS's own.
int random_bytes(void*, unsigned char* out, std::size_t size) {
    return psa_generate_random(out, size) == PSA_SUCCESS ? 0 : MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

// ChaCha20 first: most boards have no instructions for AES, or a library that does not use them.
constexpr int suites[] = {
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
    MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
#endif
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    0};

void offer(mbedtls_ssl_config& c) {
    mbedtls_ssl_conf_ciphersuites(&c, suites);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    static constexpr std::uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_X25519, MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
                                               MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1, MBEDTLS_SSL_IANA_TLS_GROUP_NONE};
    mbedtls_ssl_conf_groups(&c, groups);
    mbedtls_ssl_conf_min_tls_version(&c, MBEDTLS_SSL_VERSION_TLS1_2);
#ifdef MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(&c, MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
#endif
#else
    // The list is also what a certificate's key may be on: P-521 is in use there.
    static constexpr mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP256R1,
                                                      MBEDTLS_ECP_DP_SECP384R1, MBEDTLS_ECP_DP_SECP521R1,
                                                      MBEDTLS_ECP_DP_NONE};
    static constexpr int hashes[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_SHA384, MBEDTLS_MD_SHA512, MBEDTLS_MD_NONE};
    mbedtls_ssl_conf_curves(&c, curves);
    mbedtls_ssl_conf_sig_hashes(&c, hashes);
    mbedtls_ssl_conf_min_version(&c, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
#endif
    mbedtls_ssl_conf_renegotiation(&c, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
    mbedtls_ssl_conf_session_tickets(&c, MBEDTLS_SSL_SESSION_TICKETS_ENABLED);
}

std::int64_t seconds_of(const mbedtls_x509_time& t) {
    tm when{};
    when.tm_year = t.year - 1900, when.tm_mon = t.mon - 1, when.tm_mday = t.day;
    when.tm_hour = t.hour, when.tm_min = t.min, when.tm_sec = t.sec;
    return timegm(&when);
}

Error of_library(int result, const char* what) {
    char said[128];
    mbedtls_strerror(result, said, sizeof said);
    return Error::make(Code::device_io, "%s: %s (-0x%04x)", what, said, static_cast<unsigned>(-result));
}

// Whether an iPAddress of the certificate's alternative names (RFC 5280, 4.2.1.6) is this one. Mbed TLS 2.28 compares
// names only.
bool has_address(const mbedtls_x509_crt& certificate, const std::uint8_t* address, int size) {
    for (const mbedtls_x509_sequence* s = &certificate.subject_alt_names; s != nullptr; s = s->next)
        if ((s->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK) == 7 && s->buf.len == static_cast<std::size_t>(size) &&
            memcmp(s->buf.p, address, s->buf.len) == 0)
            return true;
    return false;
}

}  // namespace

struct Tls::Session {
    mbedtls_ssl_session saved;
    bool there = false;
    std::int64_t until = 0;

    Session() { mbedtls_ssl_session_init(&saved); }
    ~Session() { mbedtls_ssl_session_free(&saved); }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    void forget() {
        mbedtls_ssl_session_free(&saved);
        mbedtls_ssl_session_init(&saved);
        there = false;
    }
};

struct Tls::Link {
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    mbedtls_x509_crt ca, own;
    mbedtls_pk_context own_key;
    const Upstream& upstream;
    int address_size = 0;  // the host is an address
    std::uint8_t address[16];
    // What the chain's check came to.
    bool offered = false, seen = false, pinned = false;
    std::uint32_t flags = 0;
    int depth = 0;
    std::int64_t from = 0, to = 0;

    explicit Link(const Upstream& u) : upstream(u), address_size(address_bytes(u.host, address)) {
        mbedtls_ssl_init(&ssl);
        mbedtls_ssl_config_init(&config);
        mbedtls_x509_crt_init(&ca);
        mbedtls_x509_crt_init(&own);
        mbedtls_pk_init(&own_key);
    }
    ~Link() {
        mbedtls_ssl_free(&ssl);
        mbedtls_ssl_config_free(&config);
        mbedtls_x509_crt_free(&ca);
        mbedtls_x509_crt_free(&own);
        mbedtls_pk_free(&own_key);
    }
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    bool by_chain() const { return upstream.ca[0] != 0; }
    Result<void> read_files();
    Result<void> configure();
    int judge(const mbedtls_x509_crt& certificate, int at, std::uint32_t& found);
    static int verify(void* self, mbedtls_x509_crt* certificate, int at, std::uint32_t* found) {
        return static_cast<Link*>(self)->judge(*certificate, at, *found);
    }
};

Result<void> Tls::Link::read_files() {
    if (psa_crypto_init() != PSA_SUCCESS) return Error::make(Code::unknown, "PSA cannot be initialised");
    const auto failed = [](const char* key, const char* path, int result) {
        if (result == MBEDTLS_ERR_X509_FILE_IO_ERROR || result == MBEDTLS_ERR_PK_FILE_IO_ERROR)
            return Error::make(Code::storage_failure, "%s %s: cannot be read", key, path);
        if (result == MBEDTLS_ERR_X509_ALLOC_FAILED || result == MBEDTLS_ERR_PK_ALLOC_FAILED)
            return Error::make(Code::memory_full, "%s %s: not enough memory", key, path);
        char said[96];
        mbedtls_strerror(result, said, sizeof said);
        return Error::make(Code::incorrect_parameters, "%s %s: not PEM that can be read: %s", key, path, said);
    };
    if (by_chain()) {
        // A positive number is how many of the bundle's certificates it does not understand, which count for nothing.
        if (const int r = mbedtls_x509_crt_parse_file(&ca, upstream.ca); r < 0) return failed("ca", upstream.ca, r);
        if (ca.raw.len == 0)
            return Error::make(Code::incorrect_parameters, "ca %s: no certificate in it that can be read", upstream.ca);
    }
    if (upstream.client_cert[0] == 0) return {};
    if (const int r = mbedtls_x509_crt_parse_file(&own, upstream.client_cert); r != 0)
        return failed("client_cert", upstream.client_cert, r);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    const int r = mbedtls_pk_parse_keyfile(&own_key, upstream.client_key, nullptr, random_bytes, nullptr);
    const int pair = r != 0 ? 0 : mbedtls_pk_check_pair(&own.pk, &own_key, random_bytes, nullptr);
#else
    const int r = mbedtls_pk_parse_keyfile(&own_key, upstream.client_key, nullptr);
    const int pair = r != 0 ? 0 : mbedtls_pk_check_pair(&own.pk, &own_key);
#endif
    if (r != 0) return failed("client_key", upstream.client_key, r);
    if (pair != 0)
        return Error::make(Code::incorrect_parameters, "client_key %s is not the key of client_cert %s",
                           upstream.client_key, upstream.client_cert);
    return {};
}

Result<void> Tls::Link::configure() {
    TRY(read_files());
    if (const int r = mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                                  MBEDTLS_SSL_PRESET_DEFAULT);
        r != 0)
        return of_library(r, "TLS");
    offer(config);
    mbedtls_ssl_conf_rng(&config, random_bytes, nullptr);
    static const char* protocols[] = {"http/1.1", nullptr};
    mbedtls_ssl_conf_alpn_protocols(&config, protocols);
    // By pins alone no chain is asked for: admit() then refuses what is not pinned, before anything is sent.
    mbedtls_ssl_conf_authmode(&config, by_chain() ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_OPTIONAL);
    mbedtls_ssl_conf_ca_chain(&config, &ca, nullptr);
    mbedtls_ssl_conf_verify(&config, verify, this);
    if (upstream.client_cert[0] != 0) mbedtls_ssl_conf_own_cert(&config, &own, &own_key);
    if (const int r = mbedtls_ssl_setup(&ssl, &config); r != 0) return of_library(r, "TLS");
    // An address is no name: it is not sent (RFC 6066, 3), and judge() compares it.
    if (const int r = mbedtls_ssl_set_hostname(&ssl, address_size > 0 ? nullptr : upstream.host); r != 0)
        return of_library(r, "TLS");
    return {};
}

int Tls::Link::judge(const mbedtls_x509_crt& certificate, int at, std::uint32_t& found) {
    seen = true;
    std::uint8_t digest[32];
    if (!sha256({certificate.pk_raw.p, certificate.pk_raw.len}, digest)) return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    for (int i = 0; i < upstream.pin_count; i++)
        pinned |= (at == 0 || by_chain()) && memcmp(digest, upstream.pins[i], sizeof digest) == 0;
    if (at == 0 && address_size > 0) {
        found &= ~static_cast<std::uint32_t>(MBEDTLS_X509_BADCERT_CN_MISMATCH);
        if (!has_address(certificate, address, address_size)) found |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    }
    if (found != 0) {
        flags |= found;
        depth = at;
        from = seconds_of(certificate.valid_from), to = seconds_of(certificate.valid_to);
    }
    return 0;
}

Tls::Tls(const Upstream& upstream) : upstream_(upstream), session_(new Session) {}
Tls::~Tls() { close(); }

Result<void> Tls::check_files() const { return Link(upstream_).read_files(); }

int Tls::send(void* self, const unsigned char* bytes, std::size_t size) {
    Tls& t = *static_cast<Tls*>(self);
    const ssize_t n = ::send(t.fd_, bytes, size, MSG_NOSIGNAL);
    if (n >= 0) {
        t.bytes_out_ += static_cast<std::uint64_t>(n);
        return static_cast<int>(n);
    }
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_WRITE : MBEDTLS_ERR_SSL_CONN_EOF;
}

int Tls::receive(void* self, unsigned char* out, std::size_t size) {
    Tls& t = *static_cast<Tls*>(self);
    const ssize_t n = recv(t.fd_, out, size, 0);
    if (n > 0) {
        t.bytes_in_ += static_cast<std::uint64_t>(n);
        return static_cast<int>(n);
    }
    if (n == 0) return MBEDTLS_ERR_SSL_CONN_EOF;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_SSL_CONN_EOF;
}

// Of a call of the library: how many bytes, an error, or that it is to be called again.
Result<std::size_t> Tls::step(int result, const Until& until, const char* doing, bool& again) {
    again = false;
    if (result >= 0) return static_cast<std::size_t>(result);
    if (result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) return std::size_t{0};
#ifdef MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET
    if (result == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) {
        remember();
        again = true;
        return std::size_t{0};
    }
#endif
    const bool reads = result == MBEDTLS_ERR_SSL_WANT_READ;
    if (!reads && result != MBEDTLS_ERR_SSL_WANT_WRITE) return refused(result, doing);
    if (const Waited w = wait_for(fd_, reads ? POLLIN : POLLOUT, until); w != Waited::ready)
        return waited_in_vain(w, doing);
    again = true;
    return std::size_t{0};
}

// What is wrong with the server or the connection, and what to do.
Error Tls::refused(int result, const char* doing) const {
    const Link& l = *link_;
    const char* const host = upstream_.host;
    if (l.by_chain() && l.flags != 0) {
        const auto date = [](std::int64_t seconds, char(&out)[20]) {
            tm t;
            const time_t s = seconds;
            gmtime_r(&s, &t);
            if (strftime(out, sizeof out, "%Y-%m-%d %H:%M", &t) == 0) copy("?", out);
            return out;
        };
        char limit[20], today[20];
        const char* const whose = l.depth == 0 ? "its certificate" : "a certificate above its own";
        // The dates first: a board whose clock is wrong finds every server's certificate wrong.
        if ((l.flags & MBEDTLS_X509_BADCERT_FUTURE) != 0)
            return Error::make(Code::not_permitted,
                               "%.60s: %s is not valid before %s, and this board's date is %s (UTC): set its clock",
                               host, whose, date(l.from, limit), date(time(nullptr), today));
        if ((l.flags & MBEDTLS_X509_BADCERT_EXPIRED) != 0)
            return Error::make(
                Code::not_permitted,
                "%.60s: %s expired on %s, and this board's date is %s (UTC): if that is right, the server "
                "needs a new one",
                host, whose, date(l.to, limit), date(time(nullptr), today));
        if ((l.flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0)
            return Error::make(
                Code::not_permitted,
                "%.60s: nobody in %.80s signed its certificate; name its CA with ca, or its key with pin", host,
                upstream_.ca);
        if ((l.flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) != 0)
            return Error::make(Code::not_permitted,
                               "%.100s: its certificate is for another name; the url must have the certificate's",
                               host);
        char said[160] = "";
        mbedtls_x509_crt_verify_info(said, sizeof said, "", l.flags);
        said[strcspn(said, "\n")] = 0;
        return Error::make(Code::not_permitted, "%.60s: %s is refused: %s", host, whose, said);
    }
    switch (result) {
        case MBEDTLS_ERR_SSL_CONN_EOF: return Error::make(Code::device_io, "%s: the connection broke", doing);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
        case MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION:
#else
        case MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION:
#endif
            return Error::make(Code::not_permitted, "%.100s: it wants a TLS older than 1.2, which is refused", host);
        case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
            return Error::make(Code::device_io,
                               "%s: the server refuses (TLS alert): no common version or cipher, or it wants a client "
                               "certificate",
                               doing);
        case MBEDTLS_ERR_SSL_INVALID_RECORD: return Error::make(Code::device_io, "%s: what comes is not TLS", doing);
        case MBEDTLS_ERR_SSL_ALLOC_FAILED: return Error::make(Code::memory_full, "%s: not enough memory", doing);
        default: return of_library(result, doing);
    }
}

Result<void> Tls::open(int fd, const Until& until) {
    close();
    link_.reset(new Link(upstream_));
    fd_ = fd, bytes_out_ = bytes_in_ = 0, peer_ = {};
    Link& l = *link_;
    TRY(l.configure());
    mbedtls_ssl_set_bio(&l.ssl, this, send, receive, nullptr);
    if (session_->there && now_ns() >= session_->until) session_->forget();
    if (session_->there) l.offered = mbedtls_ssl_set_session(&l.ssl, &session_->saved) == 0;
    char doing[160];
    std::snprintf(doing, sizeof doing, "TLS with %.100s:%u", upstream_.host, upstream_.port);
    for (bool again = true; again;) {
        const auto r = step(mbedtls_ssl_handshake(&l.ssl), until, doing, again);
        if (r) continue;
        session_->forget();
        return r.error();
    }
    auto admitted = admit();
    if (!admitted) session_->forget();
    return admitted;
}

// After a handshake: whether this is the server, and who it is.
Result<void> Tls::admit() {
    Link& l = *link_;
    // Where no certificate came, the session is one that was admitted before.
    peer_.resumed = l.offered && !l.seen;
    if (!l.seen && !l.offered) return Error::make(Code::not_permitted, "%.100s: it has no certificate", upstream_.host);
    const mbedtls_x509_crt* const certificate = mbedtls_ssl_get_peer_cert(&l.ssl);
    if (certificate != nullptr) {
        std::uint8_t digest[32];
        TRY(sha256({certificate->pk_raw.p, certificate->pk_raw.len}, digest));
        write_base64_32(digest, peer_.pin);
        mbedtls_x509_dn_gets(peer_.subject, sizeof peer_.subject, &certificate->subject);
        mbedtls_x509_dn_gets(peer_.issuer, sizeof peer_.issuer, &certificate->issuer);
        peer_.not_after = seconds_of(certificate->valid_to);
    }
    if (l.seen && upstream_.pin_count > 0 && !l.pinned)
        return Error::make(Code::not_permitted,
                           "%.60s: its key is not one of pin; it is %s, if that is the right server", upstream_.host,
                           peer_.pin);
    copy(mbedtls_ssl_get_version(&l.ssl), peer_.version);
    copy(mbedtls_ssl_get_ciphersuite(&l.ssl), peer_.cipher);
    const char* const alpn = mbedtls_ssl_get_alpn_protocol(&l.ssl);
    if (alpn != nullptr && strcmp(alpn, "http/1.1") != 0)
        return Error::make(Code::not_supported, "%.100s: it speaks %.20s, not http/1.1", upstream_.host, alpn);
    // In TLS 1.3 tickets come later.
    if (!mbedtls3 || strcmp(peer_.version, "TLSv1.2") == 0) remember();
    return {};
}

void Tls::remember() {
    session_->forget();
    session_->there = mbedtls_ssl_get_session(&link_->ssl, &session_->saved) == 0;
    session_->until = now_ns() + std::int64_t{3600} * 1'000'000'000;
}

Result<std::size_t> Tls::read(std::span<char> out, const Until& until) {
    for (;;) {
        bool again;
        int got = mbedtls_ssl_read(&link_->ssl, reinterpret_cast<unsigned char*>(out.data()), out.size());
        // The library's 0 is an end that nobody said: anybody on the way can make it, and cut an answer short with it.
        if (got == 0) got = MBEDTLS_ERR_SSL_CONN_EOF;
        const std::size_t n = TRY(step(got, until, "reading the answer", again));
        if (!again) return n;
    }
}

Result<std::size_t> Tls::write(std::span<const char> bytes, const Until& until) {
    for (;;) {
        bool again;
        const int put =
            mbedtls_ssl_write(&link_->ssl, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
        const std::size_t n = TRY(step(put, until, "sending the request", again));
        if (!again) return n;
    }
}

void Tls::close() {
    if (link_ == nullptr) return;
    // One attempt: whoever does not take it loses nothing by it.
    if (fd_ >= 0) mbedtls_ssl_close_notify(&link_->ssl);
    link_.reset();
    fd_ = -1;
}

Result<void> bound_memory(std::size_t bytes) {
    const rlimit limit{bytes, bytes};
    if (setrlimit(RLIMIT_DATA, &limit) != 0)
        return Error::make(Code::device_io, "RLIMIT_DATA of %zu bytes: %s", bytes, strerror(errno));
    return {};
}

Result<void> sha256(std::span<const std::uint8_t> bytes, std::uint8_t (&digest)[32]) {
    std::size_t size = 0;
    if (psa_crypto_init() != PSA_SUCCESS ||
        psa_hash_compute(PSA_ALG_SHA_256, bytes.data(), bytes.size(), digest, sizeof digest, &size) != PSA_SUCCESS)
        return Error::make(Code::unknown, "SHA-256 fails");
    return {};
}

}  // namespace slmd::uplink
