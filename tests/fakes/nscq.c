/* A libnvidia-nscq.so.2 for tests: the functions and structures of nscq_attestation.h that RLU uses, answered from a directory and a callback.
 *
 *   <directory>/<switch>/uuid (16 bytes), chain
 *   <directory>/said/<what>[.<switch>]       code that the observer is called with instead
 *
 * <what> is the name of a function, or the last part of a path. Reports come from the callback, over the nonce that was set last.
 */
#include "device_library.h"

enum { SUCCESS = 0, NOT_IMPLEMENTED = -1, INVALID_UUID = -2, OVERFLOW = -4, UNEXPECTED_VALUE = -5, UNSPECIFIED = -128 };

typedef struct { uint8_t bytes[16]; } uuid;
typedef struct { char data[64]; } label;
typedef struct { uint32_t size; uint8_t report[0x2000]; } report;
typedef struct { uint8_t chain[0x1400]; uint32_t size; } certificate;
typedef struct { int8_t code; struct session *session; } session_result;
struct session { int mounted, has_nonce; uint8_t nonce[0x20]; };

typedef void (*uuid_observer)(const uuid *, int8_t, const uuid *, void *);
typedef void (*report_observer)(const uuid *, int8_t, const report, void *);
typedef void (*certificate_observer)(const uuid *, int8_t, const certificate, void *);

static int8_t failing(const char *what)
{
    char name[128];
    snprintf(name, sizeof name, "fail/%s", what);
    return (int8_t)number_in(name);
}

static int8_t said(const char *what, unsigned number)
{
    char name[128];
    snprintf(name, sizeof name, "said/%s", what);
    int8_t code = (int8_t)number_in(name);
    snprintf(name, sizeof name, "said/%s.%u", what, number);
    return code ? code : (int8_t)number_in(name);
}

static uuid uuid_of(unsigned number)
{
    char name[32];
    uuid found = {{0}};
    snprintf(name, sizeof name, "%u/uuid", number);
    slurp(name, found.bytes, sizeof found.bytes);
    return found;
}

session_result nscq_session_create(uint32_t flags)
{
    session_result result = {failing("nscq_session_create"), NULL};
    if (result.code < 0)
        return result;
    result.session = calloc(1, sizeof *result.session);
    result.session->mounted = flags == 1;
    opened++;
    return result;
}

void nscq_session_destroy(struct session *session)
{
    free(session);
    opened--;
}

int8_t nscq_uuid_to_label(const uuid *from, label *into, uint32_t flags)
{
    int8_t code = flags ? UNEXPECTED_VALUE : failing("nscq_uuid_to_label");
    char *at = into->data + sprintf(into->data, "SWX-");
    for (int n = 0; n < 16; n++)
        at += sprintf(at, n == 3 || n == 5 || n == 7 || n == 9 ? "%02X-" : "%02X", from->bytes[n]);
    return code;
}

int8_t nscq_session_set_input(struct session *session, uint32_t flags, void *input, uint32_t size)
{
    int8_t code = failing("nscq_session_set_input");
    if (code || flags || size != sizeof session->nonce)
        return code ? code : UNEXPECTED_VALUE;
    memcpy(session->nonce, input, size);
    session->has_nonce = 1;
    return SUCCESS;
}

static void observe_report(struct session *session, unsigned number, report_observer observer, void *data)
{
    uuid id = uuid_of(number);
    static report found;
    int8_t code = said("attestation_report", number);
    memset(&found, 0, sizeof found);
    if (code >= 0 && !session->has_nonce)
        code = UNEXPECTED_VALUE;
    if (code >= 0 && report_of)
        code = report_of(number, session->nonce, found.report, &found.size) ? NOT_IMPLEMENTED : code;
    observer(&id, code, found, data);
}

static void observe_certificate(unsigned number, certificate_observer observer, void *data)
{
    char name[32];
    uuid id = uuid_of(number);
    static certificate found;
    memset(&found, 0, sizeof found);
    snprintf(name, sizeof name, "%u/chain", number);
    long size = slurp(name, found.chain, sizeof found.chain);
    int8_t code = said("certificate", number);
    found.size = size < 0 ? 0 : (uint32_t)size;
    observer(&id, size < 0 && !code ? NOT_IMPLEMENTED : code, found, data);
}

int8_t nscq_session_path_observe(struct session *session, const char *path, void (*observer)(void), void *data, uint32_t flags)
{
    const char *what = strrchr(path, '/') + 1;
    int8_t code = flags ? UNEXPECTED_VALUE : failing(what);
    unsigned count = session->mounted ? (unsigned)number_in("count") : 0;
    if (code < 0)
        return code;
    if (!strcmp(path, "/drv/nvswitch/{device}/uuid")) {
        for (unsigned n = 0; n < count; n++) {
            uuid id = uuid_of(n);
            int8_t own = said("uuid", n);
            ((uuid_observer)observer)(&id, own, own < 0 ? NULL : &id, data);
        }
        return code;
    }
    for (unsigned n = 0; n < count; n++) {
        uuid id = uuid_of(n);
        label name;
        char prefix[72];
        nscq_uuid_to_label(&id, &name, 0);
        snprintf(prefix, sizeof prefix, "/%s/", name.data);
        if (strncmp(path, prefix, strlen(prefix)))
            continue;
        if (!strcmp(path + strlen(prefix), "config/attestation_report"))
            observe_report(session, n, (report_observer)observer, data);
        else if (!strcmp(path + strlen(prefix), "config/certificate"))
            observe_certificate(n, (certificate_observer)observer, data);
        else
            return NOT_IMPLEMENTED;
        return code;
    }
    /* As for a path that matches nothing: nobody is called. */
    return code;
}
