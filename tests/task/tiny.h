// models/tiny, imported once a program, and all that a task needs of it.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "engine/engine.h"
#include "image/image.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace slmd::test {

struct Model {
    std::unique_ptr<image::Image> image;
    std::unique_ptr<engine::Engine> engine, plain;  // plain: without guesses
    std::unique_ptr<text::Tokenizer> tokenizer;
    std::unique_ptr<text::ChatTemplate> chat;
};

inline Model& model() {
    static Model m = [] {
        const std::string path = testing::TempDir() + "slmd-task-" + std::to_string(getpid()) + ".slm";
        const std::string command =
            std::string(SLMD_BUILD) + "/slmpack import " + SLMD_SOURCE + "/models/tiny -o " + path + " 2>&1 >/dev/null";
        EXPECT_EQ(std::system(command.c_str()), 0);
        Model made;
        made.image = std::make_unique<image::Image>(image::Image::open(path.c_str(), {}).value());
        std::remove(path.c_str());
        made.engine.reset(engine::Engine::open(*made.image, {.context = 128, .threads = 1}).value());
        made.plain.reset(engine::Engine::open(*made.image, {.context = 128, .threads = 1, .draft = 0}).value());
        made.tokenizer = std::make_unique<text::Tokenizer>(
            text::Tokenizer::open(made.image->section(image::SectionId::tokenizer)).value());
        made.chat = std::make_unique<text::ChatTemplate>(
            text::ChatTemplate::open(made.image->section(image::SectionId::chat)).value());
        return made;
    }();
    return m;
}

}  // namespace slmd::test
