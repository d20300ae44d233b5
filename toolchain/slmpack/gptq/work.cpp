#include "work.h"

#include <cstring>
#include <filesystem>

#include "base/bytes.h"
#include "base/file.h"

namespace slmd::pack {
namespace {

namespace fs = std::filesystem;

// Values one after the other; a CRC-32C in front.
class Writer {
  public:
    template <class T>
    Writer& value(const T& v) {
        static_assert(std::is_trivially_copyable_v<T>);
        return bytes(&v, sizeof v);
    }
    template <class T>
    Writer& list(const std::vector<T>& v) {
        value(std::uint64_t{v.size()});
        return bytes(v.data(), v.size() * sizeof(T));
    }
    Writer& text(const std::string& s) { return value(std::uint64_t{s.size()}).bytes(s.data(), s.size()); }
    Writer& bytes(const void* data, std::size_t size) {
        const auto* from = static_cast<const std::byte*>(data);
        out_.insert(out_.end(), from, from + size);
        return *this;
    }
    Result<void> to(const std::string& path) const {
        AtomicFile file = TRY(AtomicFile::create(path.c_str()));
        const std::uint32_t crc = crc32c(out_);
        TRY(file.write(std::as_bytes(std::span(&crc, 1))));
        TRY(file.write(out_));
        return file.commit();
    }

  private:
    std::vector<std::byte> out_;
};

class Reader {
  public:
    static Result<Reader> open(const std::string& path) {
        MappedFile file = TRY(MappedFile::open(path.c_str()));
        std::uint32_t crc = 0;
        if (file.bytes().size() >= sizeof crc) std::memcpy(&crc, file.bytes().data(), sizeof crc);
        if (file.bytes().size() < sizeof crc || crc != crc32c(file.bytes().subspan(sizeof crc)))
            return Error::make(Code::storage_failure, "%s is damaged: remove its folder, and begin again",
                               path.c_str());
        return Reader(std::move(file));
    }
    template <class T>
    T value() {
        T v;
        bytes(&v, sizeof v);
        return v;
    }
    template <class T>
    std::vector<T> list() {
        std::vector<T> v(value<std::uint64_t>());
        bytes(v.data(), v.size() * sizeof(T));
        return v;
    }
    std::string text() {
        std::string s(value<std::uint64_t>(), '\0');
        bytes(s.data(), s.size());
        return s;
    }
    // What is behind the CRC was written here, so it is as long as it says.
    void bytes(void* to, std::size_t size) {
        if (size != 0) std::memcpy(to, file_.bytes().data() + at_, size);
        at_ += size;
    }

  private:
    explicit Reader(MappedFile file) : file_(std::move(file)) {}
    MappedFile file_;
    std::size_t at_ = sizeof(std::uint32_t);
};

void write(Writer& w, const Survey& s) {
    w.value(std::uint64_t{s.outputs.size()});
    for (const auto& [tensor, values] : s.outputs) w.text(tensor).list(values);
    w.list(s.embedding).list(s.tokens).list(s.output_hessian);
}
Survey read_survey(Reader& r) {
    Survey s;
    for (auto n = r.value<std::uint64_t>(); n > 0; n--) {
        const std::string tensor = r.text();
        s.outputs[tensor] = r.list<double>();
    }
    s.embedding = r.list<double>();
    s.tokens = r.list<double>();
    s.output_hessian = r.list<double>();
    return s;
}

void write(Writer& w, const std::vector<Matrix>& matrices) {
    w.value(std::uint64_t{matrices.size()});
    for (const Matrix& m : matrices)
        w.value(std::int64_t{m.rows()})
            .value(std::int64_t{m.cols()})
            .bytes(m.data(), std::size_t(m.size()) * sizeof(float));
}
std::vector<Matrix> read_matrices(Reader& r) {
    std::vector<Matrix> out(r.value<std::uint64_t>());
    for (Matrix& m : out) {
        const auto rows = r.value<std::int64_t>(), cols = r.value<std::int64_t>();
        m.resize(rows, cols);
        r.bytes(m.data(), std::size_t(m.size()) * sizeof(float));
    }
    return out;
}

}  // namespace

Result<Work> Work::open(const std::string& folder, const std::string& fingerprint) {
    std::error_code failed;
    fs::create_directories(folder, failed);
    if (failed)
        return Error::make(Code::storage_failure, "cannot make %s: %s", folder.c_str(), failed.message().c_str());
    Work work(folder);
    if (!work.has("fingerprint")) {
        TRY(work.put("fingerprint", fingerprint));
    } else if (TRY(work.text("fingerprint")) != fingerprint) {
        return Error::make(
            Code::incorrect_parameters,
            "%s holds unfinished work with another model or other options: finish that, or remove the folder",
            folder.c_str());
    }
    return work;
}

bool Work::has(const std::string& name) const { return fs::exists(path(name)); }
void Work::remove(const std::string& name) const { std::remove(path(name).c_str()); }
void Work::remove_all() const {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
}

Result<void> Work::put(const std::string& name, const TensorData& t) const {
    return Writer()
        .value(t.kind)
        .value(t.rows)
        .value(t.cols)
        .list(t.codes)
        .list(t.indices)
        .list(t.steps)
        .value(t.book)
        .list(t.scales)
        .list(t.minimums)
        .list(t.values)
        .to(path(name));
}
Result<TensorData> Work::tensor(const std::string& name) const {
    Reader r = TRY(Reader::open(path(name)));
    TensorData t;
    t.kind = r.value<image::Kind>();
    t.rows = r.value<std::uint32_t>();
    t.cols = r.value<std::uint32_t>();
    t.codes = r.list<std::int8_t>();
    t.indices = r.list<std::uint8_t>();
    t.steps = r.list<float>();
    t.book = r.value<std::array<std::int8_t, 16>>();
    t.scales = r.list<std::uint16_t>();
    t.minimums = r.list<std::uint16_t>();
    t.values = r.list<float>();
    return t;
}

Result<void> Work::put(const std::string& name, const Survey& s) const {
    Writer w;
    write(w, s);
    return w.to(path(name));
}
Result<Survey> Work::survey(const std::string& name) const {
    Reader r = TRY(Reader::open(path(name)));
    return read_survey(r);
}

Result<void> Work::put(const std::string& name, const SurveyState& state,
                       const std::vector<Forecast::Point>& points) const {
    Writer w;
    w.value(state.layers).list(points);
    write(w, state.so_far);
    write(w, state.gradient);
    return w.to(path(name));
}
Result<SurveyState> Work::survey_state(const std::string& name, std::vector<Forecast::Point>& points) const {
    Reader r = TRY(Reader::open(path(name)));
    SurveyState state;
    state.layers = r.value<std::uint32_t>();
    points = r.list<Forecast::Point>();
    state.so_far = read_survey(r);
    state.gradient = read_matrices(r);
    return state;
}

Result<void> Work::put(const std::string& name, const std::vector<Matrix>& matrices) const {
    Writer w;
    write(w, matrices);
    return w.to(path(name));
}
Result<std::vector<Matrix>> Work::matrices(const std::string& name) const {
    Reader r = TRY(Reader::open(path(name)));
    return read_matrices(r);
}

Result<void> Work::put(const std::string& name, const std::string& text) const {
    return Writer().text(text).to(path(name));
}
Result<std::string> Work::text(const std::string& name) const {
    Reader r = TRY(Reader::open(path(name)));
    return r.text();
}

}  // namespace slmd::pack
