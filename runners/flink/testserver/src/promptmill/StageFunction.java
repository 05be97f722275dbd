package promptmill;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.beam.model.fnexecution.v1.BeamFnApi;
import org.apache.beam.model.pipeline.v1.MetricsApi.MonitoringInfo;
import org.apache.beam.model.pipeline.v1.RunnerApi;
import org.apache.beam.runners.fnexecution.control.*;
import org.apache.beam.runners.fnexecution.provisioning.JobInfo;
import org.apache.beam.runners.fnexecution.state.StateRequestHandler;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.fn.data.FnDataReceiver;
import org.apache.beam.sdk.io.FileSystems;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.sdk.util.construction.graph.ExecutableStage;
import org.apache.beam.sdk.values.WindowedValue;
import org.apache.flink.api.common.accumulators.ListAccumulator;
import org.apache.flink.api.common.functions.RichMapPartitionFunction;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.util.Collector;

/** Runs a fused stage in a worker: one bundle for each part of the input. */
class StageFunction extends RichMapPartitionFunction<byte[], Tuple2<Integer, byte[]>> {
  static final String COUNTERS = "counters";
  private static final String USER_COUNTER = "beam:metric:user:sum_int64:v1";

  /**
   * A TaskManager's slots share the workers of a job, as in Beam's runners: one factory has sdk_worker_parallelism of
   * them and gives them to the parts of stages in turn.
   */
  private static final Map<String, ExecutableStageContext.Factory> WORKERS = new ConcurrentHashMap<>();

  private final byte[] payload;
  private final JobInfo info;
  private final List<String> outputs;
  private transient ExecutableStage stage;
  private transient ExecutableStageContext context;
  private transient StageBundleFactory bundles;
  private transient ListAccumulator<byte[]> counters;

  StageFunction(byte[] payload, JobInfo info, List<String> outputs) {
    this.payload = payload;
    this.info = info;
    this.outputs = outputs;
  }

  @Override
  public void open(Configuration unused) throws Exception {
    FileSystems.setDefaultPipelineOptions(PipelineOptionsFactory.create());
    stage = ExecutableStage.fromPayload(RunnerApi.ExecutableStagePayload.parseFrom(payload));
    context = WORKERS.computeIfAbsent(
        info.jobId(),
        id -> ReferenceCountingExecutableStageContextFactory.create(DefaultExecutableStageContext::create, x -> true)).get(info);
    bundles = context.getStageBundleFactory(stage);
    counters = new ListAccumulator<>();
    getRuntimeContext().addAccumulator(COUNTERS, counters);
  }

  @Override
  public void mapPartition(Iterable<byte[]> in, Collector<Tuple2<Integer, byte[]>> out) throws Exception {
    Iterator<byte[]> elements = in.iterator();
    if (!elements.hasNext()) {
      return;
    }
    Coder<WindowedValue<Object>> coder = Translation.wire(stage.getComponents(), stage.getInputPCollection().getId());
    try (RemoteBundle bundle = bundles.getBundle(receivers(out), StateRequestHandler.unsupported(), new Counting())) {
      FnDataReceiver<WindowedValue<?>> worker = bundle.getInputReceivers().values().iterator().next();
      while (elements.hasNext()) {
        worker.accept(coder.decode(new ByteArrayInputStream(elements.next())));
      }
    }
  }

  /** Outputs come on threads of the data plane; Flink's collector is for one thread at a time. */
  private OutputReceiverFactory receivers(Collector<Tuple2<Integer, byte[]>> out) {
    return new OutputReceiverFactory() {
      @Override
      public <T> FnDataReceiver<T> create(String collection) {
        int tag = outputs.indexOf(collection);
        try {
          Coder<WindowedValue<Object>> coder = Translation.wire(stage.getComponents(), collection);
          return v -> {
            @SuppressWarnings("unchecked")
            byte[] b = Translation.encode(coder, (WindowedValue<Object>) v);
            synchronized (out) {
              out.collect(new Tuple2<>(tag, b));
            }
          };
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      }
    };
  }

  private class Counting implements BundleProgressHandler {
    @Override
    public void onProgress(BeamFnApi.ProcessBundleProgressResponse unused) {}

    @Override
    public void onCompleted(BeamFnApi.ProcessBundleResponse r) {
      for (MonitoringInfo m : r.getMonitoringInfosList()) {
        if (m.getUrn().equals(USER_COUNTER)) {
          counters.add(m.toByteArray());
        }
      }
    }
  }

  @Override
  public void close() throws Exception {
    try (AutoCloseable first = context; AutoCloseable second = bundles) {
      // Closed in the reverse order, whatever either throws.
    } finally {
      context = null;
      bundles = null;
    }
  }
}
