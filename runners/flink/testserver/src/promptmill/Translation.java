package promptmill;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.beam.model.pipeline.v1.RunnerApi;
import org.apache.beam.runners.fnexecution.provisioning.JobInfo;
import org.apache.beam.runners.fnexecution.wire.WireCoders;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.coders.KvCoder;
import org.apache.beam.sdk.util.construction.graph.*;
import org.apache.beam.sdk.values.KV;
import org.apache.beam.sdk.values.WindowedValue;
import org.apache.beam.sdk.values.WindowedValues;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.common.functions.GroupReduceFunction;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.typeinfo.BasicTypeInfo;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.java.DataSet;
import org.apache.flink.api.java.ExecutionEnvironment;
import org.apache.flink.api.java.io.DiscardingOutputFormat;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.typeutils.TupleTypeInfo;
import org.apache.flink.util.Collector;

/** Makes a Flink program of a job: elements travel encoded, as Beam's data plane has them. */
class Translation {
  static final String RESHUFFLE = "beam:transform:reshuffle:v1";
  private static final String GROUP = "beam:transform:group_by_key:v1";
  private static final String FLATTEN = "beam:transform:flatten:v1";
  private static final String IMPULSE = "beam:transform:impulse:v1";
  private static final String PARDO = "beam:transform:pardo:v1";

  private static final TypeInformation<byte[]> BYTES = PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;
  private static final TypeInformation<Tuple2<Integer, byte[]>> TAGGED = new TupleTypeInfo<>(BasicTypeInfo.INT_TYPE_INFO, BYTES);
  private static final TypeInformation<Tuple2<byte[], byte[]>> KEYED = new TupleTypeInfo<>(BYTES, BYTES);

  private final ExecutionEnvironment env;
  private final Job job;
  private final RunnerApi.Components components;
  private final QueryablePipeline pipeline;
  private final Map<String, DataSet<byte[]>> sets = new HashMap<>();

  Translation(ExecutionEnvironment env, Job job) {
    this.env = env;
    this.job = job;
    RunnerApi.Pipeline sized = ProtoOverrides.updateTransform(PARDO, job.pipeline, SplittableParDoExpander.createSizedReplacement());
    RunnerApi.Pipeline trimmed = TrivialNativeTransformExpander.forKnownUrns(sized, Set.of(GROUP, FLATTEN, IMPULSE, RESHUFFLE));
    RunnerApi.Pipeline fused = GreedyPipelineFuser.fuse(trimmed).toPipeline();
    components = fused.getComponents();
    pipeline = QueryablePipeline.forPipeline(fused);
  }

  void run() throws Exception {
    Set<String> used = new HashSet<>();
    for (PipelineNode.PTransformNode node : pipeline.getTopologicallyOrderedTransforms()) {
      used.addAll(node.getTransform().getInputsMap().values());
      add(node.getTransform());
    }
    sets.forEach((name, set) -> {
      if (!used.contains(name)) {
        set.output(new DiscardingOutputFormat<>()); // Flink runs what leads to an output
      }
    });
  }

  private void add(RunnerApi.PTransform t) throws Exception {
    switch (t.getSpec().getUrn()) {
      case IMPULSE:
        byte[] one = encode(wire(components, output(t)), WindowedValues.valueInGlobalWindow(new byte[0]));
        sets.put(output(t), env.fromCollection(Collections.singletonList(one), BYTES));
        break;
      case FLATTEN:
        DataSet<byte[]> union = null;
        for (String in : t.getInputsMap().values()) {
          union = union == null ? sets.get(in) : union.union(sets.get(in));
        }
        sets.put(output(t), union == null ? env.fromCollection(Collections.<byte[]>emptyList(), BYTES) : union);
        break;
      case RESHUFFLE:
        sets.put(output(t), sets.get(input(t)).rebalance());
        break;
      case GROUP:
        group(t);
        break;
      case ExecutableStage.URN:
        stage(t);
        break;
      default:
        throw new UnsupportedOperationException("the test server does not know " + t.getSpec().getUrn());
    }
  }

  @SuppressWarnings("unchecked")
  private void group(RunnerApi.PTransform t) throws IOException {
    Coder<WindowedValue<Object>> in = wire(components, input(t));
    KvCoder<Object, Object> kv = (KvCoder<Object, Object>) (Coder<?>) ((WindowedValues.WindowedValueCoder<?>) (Coder<?>) in).getValueCoder();
    sets.put(output(t), sets.get(input(t))
        .map(new ByKey(in, kv)).returns(KEYED)
        .groupBy(0)
        .reduceGroup(new Collect(kv, wire(components, output(t)))).returns(BYTES)
        .name("GroupByKey"));
  }

  private void stage(RunnerApi.PTransform t) throws Exception {
    RunnerApi.ExecutableStagePayload payload = RunnerApi.ExecutableStagePayload.parseFrom(t.getSpec().getPayload());
    if (payload.getSideInputsCount() + payload.getUserStatesCount() + payload.getTimersCount() > 0) {
      throw new UnsupportedOperationException("side inputs, state and timers are outside of the portable subset: " + t.getUniqueName());
    }
    List<String> outputs = new ArrayList<>(t.getOutputsMap().values());
    JobInfo info = JobInfo.create(job.id, job.name, job.stagingToken, job.options);
    String name = t.getUniqueName();
    DataSet<Tuple2<Integer, byte[]>> tagged = sets.get(payload.getInput())
        .mapPartition(new StageFunction(payload.toByteArray(), info, outputs)).returns(TAGGED)
        .name(name.substring(0, Math.min(name.length(), 60)));
    for (int i = 0; i < outputs.size(); i++) {
      sets.put(outputs.get(i), tagged.flatMap(new Only(i)).returns(BYTES));
    }
    if (outputs.isEmpty()) {
      tagged.output(new DiscardingOutputFormat<>());
    }
  }

  private static String input(RunnerApi.PTransform t) {
    return t.getInputsMap().values().iterator().next();
  }

  private static String output(RunnerApi.PTransform t) {
    return t.getOutputsMap().values().iterator().next();
  }

  static Coder<WindowedValue<Object>> wire(RunnerApi.Components c, String collection) throws IOException {
    return WireCoders.instantiateRunnerWireCoder(PipelineNode.pCollection(collection, c.getPcollectionsOrThrow(collection)), c);
  }

  static <T> byte[] encode(Coder<T> coder, T value) throws IOException {
    ByteArrayOutputStream b = new ByteArrayOutputStream();
    coder.encode(value, b);
    return b.toByteArray();
  }

  /** Takes one output of a stage. */
  static class Only implements FlatMapFunction<Tuple2<Integer, byte[]>, byte[]> {
    private final int tag;

    Only(int tag) {
      this.tag = tag;
    }

    @Override
    public void flatMap(Tuple2<Integer, byte[]> v, Collector<byte[]> out) {
      if (v.f0 == tag) {
        out.collect(v.f1);
      }
    }
  }

  /** Splits an encoded pair into its encoded key and value. */
  static class ByKey implements MapFunction<byte[], Tuple2<byte[], byte[]>> {
    private final Coder<WindowedValue<Object>> in;
    private final KvCoder<Object, Object> kv;

    ByKey(Coder<WindowedValue<Object>> in, KvCoder<Object, Object> kv) {
      this.in = in;
      this.kv = kv;
    }

    @Override
    @SuppressWarnings("unchecked")
    public Tuple2<byte[], byte[]> map(byte[] b) throws Exception {
      KV<Object, Object> pair = (KV<Object, Object>) in.decode(new ByteArrayInputStream(b)).getValue();
      return new Tuple2<>(encode(kv.getKeyCoder(), pair.getKey()), encode(kv.getValueCoder(), pair.getValue()));
    }
  }

  /** Makes a key and its values one element. */
  static class Collect implements GroupReduceFunction<Tuple2<byte[], byte[]>, byte[]> {
    private final KvCoder<Object, Object> kv;
    private final Coder<WindowedValue<Object>> out;

    Collect(KvCoder<Object, Object> kv, Coder<WindowedValue<Object>> out) {
      this.kv = kv;
      this.out = out;
    }

    @Override
    public void reduce(Iterable<Tuple2<byte[], byte[]>> pairs, Collector<byte[]> o) throws Exception {
      Object key = null;
      List<Object> values = new ArrayList<>();
      for (Tuple2<byte[], byte[]> p : pairs) {
        if (key == null) {
          key = kv.getKeyCoder().decode(new ByteArrayInputStream(p.f0));
        }
        values.add(kv.getValueCoder().decode(new ByteArrayInputStream(p.f1)));
      }
      o.collect(encode(out, WindowedValues.valueInGlobalWindow((Object) KV.of(key, values))));
    }
  }
}
