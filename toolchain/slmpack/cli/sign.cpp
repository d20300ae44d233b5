// keygen, sign: whose image it is.
#include "toolchain/slmpack/image/sign.h"

#include <cstdio>

#include "commands.h"

namespace slmd::pack {

int run_keygen(const std::string& path) {
    const auto key = make_key(path);
    if (!key) return fail(key.error().text);
    std::printf("%s, %s.pub: key %s\n", path.c_str(), path.c_str(), image::name_of(key.value().id).hex);
    return 0;
}

int run_sign(const SignCommand& command) {
    const auto key = image::read_private_key(command.key.c_str());
    if (!key) return fail(key.error().text);
    const std::string& output = command.output.empty() ? command.image : command.output;
    if (const auto ok = sign_image(command.image, output, key.value()); !ok) return fail(ok.error().text);
    std::printf("%s: signed by key %s\n", output.c_str(), image::name_of(key.value().public_key.id).hex);
    return 0;
}

}  // namespace slmd::pack
