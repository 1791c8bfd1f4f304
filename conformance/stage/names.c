// Names under `.localhost` and `.example` are this machine, for every program of a run: some
// resolvers know `localhost` alone, and a client's metadata document must stand at a host that is
// not called `localhost`. Preloaded by clients.sh, so that no file of the machine is touched.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

static int ends_with(const char *name, const char *end) {
  size_t length = strlen(name), rest = strlen(end);
  return length > rest && strcmp(name + length - rest, end) == 0;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
      dlsym(RTLD_NEXT, "getaddrinfo");
  int here = name && (ends_with(name, ".localhost") || ends_with(name, ".example"));
  return real(here ? "127.0.0.1" : name, service, hints, found);
}
