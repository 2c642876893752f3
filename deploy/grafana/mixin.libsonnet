// Dashboards, alerts and recording rules as a monitoring mixin (monitoring.mixins.dev), for installations that are
// generated with jsonnet: `(import 'deploy/grafana/mixin.libsonnet') + { _config+:: { clusterLabel: 'site' } }`.
local files = [
  importstr '../prometheus/rules/averages.yml',
  importstr '../prometheus/rules/guide.yml',
  importstr '../prometheus/rules/hours.yml',
  importstr '../prometheus/rules/pipeline.yml',
  importstr '../prometheus/rules/services.yml',
  importstr '../prometheus/rules/silence.yml',
];
local groups = std.flattenArrays([std.parseYaml(file).groups for file in files]);
// The groups with only the rules that have this field.
local having(field) = [
  group { rules: rules }
  for group in groups
  for rules in [[rule for rule in group.rules if std.objectHas(rule, field)]]
  if rules != []
];

{
  _config+:: {
    // Name of the label that tells installations apart, in the variable of the dashboards.
    clusterLabel: 'cluster',
  },
  local dashboard(board) = std.parseJson(std.strReplace(
    std.strReplace(std.manifestJsonMinified(board), 'cluster=~', $._config.clusterLabel + '=~'),
    ', cluster)',
    ', ' + $._config.clusterLabel + ')'
  )),
  grafanaDashboards+:: {
    'tobogganing-capacity.json': dashboard(import 'dashboards/capacity.json'),
    'tobogganing-entity.json': dashboard(import 'dashboards/entity.json'),
    'tobogganing-fleet.json': dashboard(import 'dashboards/fleet.json'),
    'tobogganing-headends.json': dashboard(import 'dashboards/headends.json'),
    'tobogganing-pipeline.json': dashboard(import 'dashboards/pipeline.json'),
    'tobogganing.json': dashboard(import 'dashboards/tobogganing.json'),
  },
  prometheusAlerts+:: { groups+: having('alert') },
  prometheusRules+:: { groups+: having('record') },
}
